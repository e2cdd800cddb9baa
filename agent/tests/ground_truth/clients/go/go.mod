module skep.example/ground-truth/client

go 1.22
