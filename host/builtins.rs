/// The built-in plugins and their kinds.
const BUILTINS: &[(&str, &str)] = &[
    ("first", "Balancer"),
    ("least-connections", "Balancer"),
    ("least-time", "Balancer"),
    ("peak-ewma", "Balancer"),
    ("priority", "Balancer"),
    ("random", "Balancer"),
    ("random-two", "Balancer"),
    ("round-robin", "Balancer"),
    ("set-headers", "Rewriter"),
    ("standard", "Retry"),
    ("sticky", "Balancer"),
    ("zone", "Balancer"),
];
