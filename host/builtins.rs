/// The built-in plugins and their kinds.
const BUILTINS: &[(&str, &str)] = &[
    ("backoff", "Retry"),
    ("basic-auth", "Rewriter"),
    ("canary", "Rewriter"),
    ("cors", "Rewriter"),
    ("never", "Retry"),
    ("rate-limit", "Rewriter"),
    ("redirect", "Rewriter"),
    ("request-id", "Rewriter"),
    ("rewrite-path", "Rewriter"),
    ("round-robin", "Balancer"),
    ("security-headers", "Rewriter"),
    ("set-headers", "Rewriter"),
    ("standard", "Retry"),
    ("substitute", "Rewriter"),
];
