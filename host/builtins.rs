/// The built-in plugins and their kinds.
const BUILTINS: &[(&str, &str)] = &[
    ("hash", "Balancer"),
    ("ip-hash", "Balancer"),
    ("maglev", "Balancer"),
    ("rendezvous", "Balancer"),
    ("round-robin", "Balancer"),
    ("set-headers", "Rewriter"),
    ("standard", "Retry"),
];
