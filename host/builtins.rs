/// The built-in plugins and their kinds.
const BUILTINS: &[(&str, &str)] = &[
    ("round-robin", "Balancer"),
    ("set-headers", "Rewriter"),
    ("standard", "Retry"),
];
