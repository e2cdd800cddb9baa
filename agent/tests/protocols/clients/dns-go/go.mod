module skep/dns-go

go 1.24
