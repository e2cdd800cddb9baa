module skep.example/targets/go

go 1.22
