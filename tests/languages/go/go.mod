module mirror

go 1.24

require allowance v0.0.0

replace allowance => ../../../examples/plugins/allowance
