module golang-app

go 1.22
