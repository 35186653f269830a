/// The built-in plugins and their kinds.
const BUILTINS: &[(&str, &str)] = &[
    ("first", "Balancer"),
    ("hash", "Balancer"),
    ("ip-hash", "Balancer"),
    ("least-connections", "Balancer"),
    ("least-time", "Balancer"),
    ("maglev", "Balancer"),
    ("peak-ewma", "Balancer"),
    ("prefix-affinity", "Balancer"),
    ("random", "Balancer"),
    ("random-two", "Balancer"),
    ("rendezvous", "Balancer"),
    ("round-robin", "Balancer"),
    ("set-headers", "Rewriter"),
    ("standard", "Retry"),
];
