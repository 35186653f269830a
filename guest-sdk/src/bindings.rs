//! What wit-bindgen makes of the contract: all the imports once, and each export on its own.
//!
//! Each export is a world of one interface, so that [`crate::export!`] can put a plugin's type together from what
//! it exports; an encoder merges the worlds. Imports that a plugin does not call are not in its component.

pub mod imports {
    wit_bindgen::generate!({
        path: "wit",
        generate_all,
        inline: "
            package staunch:sdk;
            world imports {
                include staunch:plugin/host-imports@0.1.0;
                import staunch:plugin/loads@0.1.0;
                import staunch:plugin/selection@0.1.0;
                import staunch:plugin/delegate@0.1.0;
                import staunch:plugin/pace@0.1.0;
                import staunch:plugin/routing@0.1.0;
                import staunch:plugin/response@0.1.0;
                import staunch:plugin/edits@0.1.0;
            }
        ",
    });
}

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "wit",
        with: { "staunch:plugin/types@0.1.0": crate::bindings::imports::staunch::plugin::types },
        pub_export_macro: true,
        export_macro_name: "__export_lifecycle",
        inline: "package staunch:sdk; world lifecycle { export staunch:plugin/lifecycle@0.1.0; }",
    });
}

pub mod balancer {
    wit_bindgen::generate!({
        path: "wit",
        with: { "staunch:plugin/types@0.1.0": crate::bindings::imports::staunch::plugin::types },
        pub_export_macro: true,
        export_macro_name: "__export_balancer",
        inline: "package staunch:sdk; world balancer { export staunch:plugin/balancer@0.1.0; }",
    });
}

pub mod feedback {
    wit_bindgen::generate!({
        path: "wit",
        with: { "staunch:plugin/types@0.1.0": crate::bindings::imports::staunch::plugin::types },
        pub_export_macro: true,
        export_macro_name: "__export_feedback",
        inline: "package staunch:sdk; world feedback { export staunch:plugin/feedback@0.1.0; }",
    });
}

pub mod retry {
    wit_bindgen::generate!({
        path: "wit",
        with: { "staunch:plugin/types@0.1.0": crate::bindings::imports::staunch::plugin::types },
        pub_export_macro: true,
        export_macro_name: "__export_retry",
        inline: "package staunch:sdk; world retry { export staunch:plugin/retry@0.1.0; }",
    });
}

pub mod request_rewriter {
    wit_bindgen::generate!({
        path: "wit",
        with: {
            "staunch:plugin/types@0.1.0": crate::bindings::imports::staunch::plugin::types,
            "staunch:plugin/edits@0.1.0": crate::bindings::imports::staunch::plugin::edits,
        },
        pub_export_macro: true,
        export_macro_name: "__export_request_rewriter",
        inline: "package staunch:sdk; world request-rewriter { export staunch:plugin/request-rewriter@0.1.0; }",
    });
}

pub mod response_rewriter {
    wit_bindgen::generate!({
        path: "wit",
        with: {
            "staunch:plugin/types@0.1.0": crate::bindings::imports::staunch::plugin::types,
            "staunch:plugin/edits@0.1.0": crate::bindings::imports::staunch::plugin::edits,
        },
        pub_export_macro: true,
        export_macro_name: "__export_response_rewriter",
        inline: "package staunch:sdk; world response-rewriter { export staunch:plugin/response-rewriter@0.1.0; }",
    });
}

pub mod handover {
    wit_bindgen::generate!({
        path: "wit",
        pub_export_macro: true,
        export_macro_name: "__export_handover",
        inline: "package staunch:sdk; world handover { export staunch:plugin/handover@0.1.0; }",
    });
}

pub mod request_body {
    wit_bindgen::generate!({
        path: "wit",
        pub_export_macro: true,
        export_macro_name: "__export_request_body",
        inline: "package staunch:sdk; world request-body-rewriter { export staunch:plugin/request-body-rewriter@0.1.0; }",
    });
}

pub mod response_body {
    wit_bindgen::generate!({
        path: "wit",
        pub_export_macro: true,
        export_macro_name: "__export_response_body",
        inline: "package staunch:sdk; world response-body-rewriter { export staunch:plugin/response-body-rewriter@0.1.0; }",
    });
}
