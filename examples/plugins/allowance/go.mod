module allowance

go 1.24
