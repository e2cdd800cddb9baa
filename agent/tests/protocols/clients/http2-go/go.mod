module skep.test/http2

go 1.24
