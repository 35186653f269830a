//! The contract of `wit/` as Rust: generated, and seen by `plugins` alone.
//!
//! One world that imports and exports everything serves every kind: a component may import less, and which
//! interfaces it exports is looked at one by one.

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package staunch:host;

        world everything {
            include staunch:plugin/stateful-balancer-plugin@0.1.0;
            include staunch:plugin/retry-plugin@0.1.0;
            include staunch:plugin/body-rewriter-plugin@0.1.0;
        }
    ",
    world: "staunch:host/everything",
    imports: { default: trappable },
});
