//! How a type of the author's becomes the exports of a component.

/// Exports a type as the plugin of its crate, which is a `cdylib`. Once in a crate.
///
/// ```text
/// staunch_plugin::export!(balancer: MyType);
/// staunch_plugin::export!(balancer: MyType + feedback);           // which also implements Feedback
/// staunch_plugin::export!(retry: MyType);
/// staunch_plugin::export!(rewriter: MyType + request);            // which implements RequestRewriter
/// staunch_plugin::export!(rewriter: MyType + response);           // which implements ResponseRewriter
/// staunch_plugin::export!(rewriter: MyType + request + response); // which implements both
/// ```
///
/// In a native build it only checks that the type implements these traits.
#[macro_export]
macro_rules! export {
    (balancer: $plugin:ident) => {
        $crate::__export!($plugin: Balancer, BalancerExport, lifecycle __export_lifecycle, balancer __export_balancer);
    };
    (balancer: $plugin:ident + feedback) => {
        $crate::__export!(
            $plugin: Feedback, BalancerExport,
            lifecycle __export_lifecycle, balancer __export_balancer, feedback __export_feedback
        );
    };
    (retry: $plugin:ident) => {
        $crate::__export!($plugin: Retry, RetryExport, lifecycle __export_lifecycle, retry __export_retry);
    };
    (rewriter: $plugin:ident + request) => {
        $crate::__export!(
            $plugin: RequestRewriter, RewriterExport,
            lifecycle __export_lifecycle, request_rewriter __export_request_rewriter
        );
    };
    (rewriter: $plugin:ident + response) => {
        $crate::__export!(
            $plugin: ResponseRewriter, RewriterExport,
            lifecycle __export_lifecycle, response_rewriter __export_response_rewriter
        );
    };
    (rewriter: $plugin:ident + request + response) => {
        $crate::__export!(
            $plugin: RequestRewriter + $crate::ResponseRewriter, RewriterExport,
            lifecycle __export_lifecycle,
            request_rewriter __export_request_rewriter, response_rewriter __export_response_rewriter
        );
    };
    ($($other:tt)*) => {
        ::std::compile_error!(
            "write `balancer: MyType`, `balancer: MyType + feedback`, `retry: MyType`, `rewriter: MyType + request`, \
             `rewriter: MyType + response` or `rewriter: MyType + request + response`"
        );
    };
}

#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ident: $first:ident $(+ $more:path)?, $($rest:tt)*) => {
        const _: () = {
            const fn implements<T: $crate::$first $(+ $more)?>() {}
            implements::<$plugin>();
        };
    };
}

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ident: $first:ident $(+ $more:path)?, $export:ident, $($interface:ident $macro:ident),+) => {
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: ::std::cell::RefCell<::std::option::Option<$plugin>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            impl $crate::export::Kept for $plugin {
                const KEPT: &'static ::std::thread::LocalKey<::std::cell::RefCell<::std::option::Option<Self>>> =
                    &PLUGIN;
            }

            type Export = $crate::export::$export<$plugin>;
            $($crate::bindings::$interface::$macro!(Export with_types_in $crate::bindings::$interface);)+
        };
    };
}

#[cfg(target_arch = "wasm32")]
pub use adapters::{BalancerExport, Kept, RetryExport, RewriterExport};

#[cfg(target_arch = "wasm32")]
mod adapters {
    //! Between the generated exports and the traits of this crate.

    use std::cell::RefCell;
    use std::marker::PhantomData;
    use std::thread::LocalKey;
    use std::time::Duration;

    use crate::bindings::imports::staunch::plugin::{edits, types};
    use crate::bindings::request_rewriter::exports::staunch::plugin::request_rewriter;
    use crate::bindings::response_rewriter::exports::staunch::plugin::response_rewriter;
    use crate::bindings::{balancer, feedback, lifecycle, retry};
    use crate::{
        AttemptContext, Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, Endpoints, Failure, Feedback,
        FieldEdit, Instant, Invalid, LocalResponse, MethodKind, Outcome, PickContext, PickError, RequestAction,
        RequestRewriter, ResponseAction, ResponseRewriter, Retry, RetryNeeds, Rewriter, RewriterNeeds, Sample,
        TargetEdit, Wanted, clock,
    };

    /// The one value of a plugin's type, once it is configured.
    pub trait Kept: Sized + 'static {
        const KEPT: &'static LocalKey<RefCell<Option<Self>>>;
    }

    /// Calls the plugin. A host configures it before anything else, so that `None` is never seen of a good one.
    fn with<T: Kept, R>(call: impl FnOnce(&mut T) -> R) -> Option<R> {
        T::KEPT.with(|kept| kept.try_borrow_mut().ok()?.as_mut().map(call))
    }

    fn configure<T: Kept>(make: impl FnOnce(&Config) -> Result<T, Invalid>) -> Result<(), Vec<types::ConfigIssue>> {
        let config = Config::whole();
        let made = make(&config);
        let issues = config.issues().0;
        match made {
            Ok(plugin) if issues.is_empty() => {
                T::KEPT.with(|kept| kept.replace(Some(plugin)));
                Ok(())
            }
            _ => Err(issues
                .into_iter()
                .map(|issue| types::ConfigIssue { path: issue.path, message: issue.message })
                .collect()),
        }
    }

    pub struct BalancerExport<T>(PhantomData<T>);

    impl<T: Balancer + Kept> lifecycle::exports::staunch::plugin::lifecycle::Guest for BalancerExport<T> {
        fn configure() -> Result<(), Vec<types::ConfigIssue>> {
            configure(|config| T::configure(config, &mut BalancerNeeds::new()))
        }
    }

    impl<T: Balancer + Kept> balancer::exports::staunch::plugin::balancer::Guest for BalancerExport<T> {
        fn update(version: u64, endpoints: Vec<types::Endpoint>) {
            let endpoints = Endpoints::new(version, endpoints.into_iter().map(endpoint).collect());
            with(|plugin: &mut T| plugin.update(endpoints));
        }

        fn change(changes: Vec<types::EndpointChange>) {
            let change = |c: types::EndpointChange| EndpointChange { id: c.id, weight: c.weight, ready: c.ready };
            let changes: Vec<EndpointChange> = changes.into_iter().map(change).collect();
            with(|plugin: &mut T| plugin.change(&changes));
        }

        fn pick(
            cx: balancer::exports::staunch::plugin::balancer::PickContext,
        ) -> Result<u32, balancer::exports::staunch::plugin::balancer::PickError> {
            use balancer::exports::staunch::plugin::balancer::PickError as Wit;
            let cx = PickContext {
                key: cx.key,
                random: cx.random,
                now: Instant::from_nanos(cx.now),
                attempt: cx.attempt,
                previous: cx.previous,
            };
            match with(|plugin: &mut T| plugin.pick(&cx)) {
                Some(Ok(endpoint)) => Ok(endpoint),
                Some(Err(PickError::Overloaded)) => Err(Wit::Overloaded),
                Some(Err(PickError::Unavailable)) | None => Err(Wit::Unavailable),
            }
        }
    }

    impl<T: Feedback + Kept> feedback::exports::staunch::plugin::feedback::Guest for BalancerExport<T> {
        fn observe(samples: Vec<feedback::exports::staunch::plugin::feedback::Sample>) {
            let samples: Vec<Sample> = samples
                .into_iter()
                .map(|sample| Sample {
                    endpoint: sample.endpoint,
                    latency: Duration::from_nanos(sample.latency),
                    status: u16::try_from(sample.status).ok().filter(|&status| status != 0),
                    penalty: sample.penalty,
                })
                .collect();
            with(|plugin: &mut T| plugin.observe(&samples));
        }
    }

    pub struct RetryExport<T>(PhantomData<T>);

    impl<T: Retry + Kept> lifecycle::exports::staunch::plugin::lifecycle::Guest for RetryExport<T> {
        fn configure() -> Result<(), Vec<types::ConfigIssue>> {
            configure(|config| T::configure(config, &mut RetryNeeds::new()))
        }
    }

    impl<T: Retry + Kept> retry::exports::staunch::plugin::retry::Guest for RetryExport<T> {
        fn decide(
            cx: retry::exports::staunch::plugin::retry::AttemptContext,
        ) -> Option<retry::exports::staunch::plugin::retry::RetryPlan> {
            use retry::exports::staunch::plugin::retry as wit;
            let cx = AttemptContext {
                outcome: match cx.outcome {
                    types::Outcome::Status(status) => Outcome::Status(status),
                    types::Outcome::Failed(why) => Outcome::Failed(failure(why)),
                },
                endpoint: cx.endpoint,
                attempt: cx.attempt,
                method: match cx.method {
                    wit::MethodKind::Safe => MethodKind::Safe,
                    wit::MethodKind::Idempotent => MethodKind::Idempotent,
                    wit::MethodKind::Other => MethodKind::Other,
                },
                sent: cx.sent,
                elapsed: Duration::from_nanos(cx.elapsed),
                remaining: cx.remaining.map(Duration::from_nanos),
                budget: cx.budget,
                retry_after: cx.retry_after.map(Duration::from_nanos),
                random: cx.random,
            };
            let plan = with(|plugin: &mut T| plugin.decide(&cx)).flatten()?;
            Some(wit::RetryPlan { delay: clock::nanos(plan.delay), elsewhere: plan.elsewhere })
        }
    }

    pub struct RewriterExport<T>(PhantomData<T>);

    impl<T: Rewriter + Kept> lifecycle::exports::staunch::plugin::lifecycle::Guest for RewriterExport<T> {
        fn configure() -> Result<(), Vec<types::ConfigIssue>> {
            configure(|config| T::configure(config, &mut RewriterNeeds::new()))
        }
    }

    impl<T: RequestRewriter + Kept> request_rewriter::Guest for RewriterExport<T> {
        fn on_request(wanted: Vec<Option<Vec<u8>>>) -> request_rewriter::RequestAction {
            use request_rewriter::{RequestAction as Wit, TargetEdit as Target};
            let wanted = Wanted::new(wanted);
            match with(|plugin: &mut T| plugin.on_request(&wanted)) {
                Some(RequestAction::Proceed) | None => Wit::Proceed,
                Some(RequestAction::Fields(fields)) => Wit::Fields(field_edits(fields)),
                Some(RequestAction::Rewrite(target, fields)) => {
                    let edit = |edit| match edit {
                        TargetEdit::PathAndQuery(target) => Target::PathAndQuery(target),
                        TargetEdit::Authority(authority) => Target::Authority(authority),
                        TargetEdit::Method(method) => Target::Method(method),
                    };
                    Wit::Rewrite((target.into_iter().map(edit).collect(), field_edits(fields)))
                }
                Some(RequestAction::Respond(response)) => Wit::Respond(local_response(response)),
            }
        }
    }

    impl<T: ResponseRewriter + Kept> response_rewriter::Guest for RewriterExport<T> {
        fn on_response(wanted: Vec<Option<Vec<u8>>>) -> response_rewriter::ResponseAction {
            use response_rewriter::ResponseAction as Wit;
            let wanted = Wanted::new(wanted);
            match with(|plugin: &mut T| plugin.on_response(&wanted)) {
                Some(ResponseAction::Proceed) | None => Wit::Proceed,
                Some(ResponseAction::Fields(fields)) => Wit::Fields(field_edits(fields)),
                Some(ResponseAction::Rewrite(status, fields)) => Wit::Rewrite((status, field_edits(fields))),
                Some(ResponseAction::Replace(response)) => Wit::Replace(local_response(response)),
            }
        }
    }

    fn endpoint(endpoint: types::Endpoint) -> Endpoint {
        Endpoint {
            id: endpoint.id,
            address: endpoint.address,
            weight: endpoint.weight,
            priority: endpoint.priority,
            zone: endpoint.zone,
            ready: endpoint.ready,
            labels: endpoint.labels,
        }
    }

    fn failure(failure: types::Failure) -> Failure {
        match failure {
            types::Failure::Connect => Failure::Connect,
            types::Failure::ConnectTimeout => Failure::ConnectTimeout,
            types::Failure::Tls => Failure::Tls,
            types::Failure::Reset => Failure::Reset,
            types::Failure::ResponseTimeout => Failure::ResponseTimeout,
            types::Failure::Protocol => Failure::Protocol,
            types::Failure::Overload => Failure::Overload,
        }
    }

    fn field_edits(fields: Vec<FieldEdit>) -> Vec<edits::FieldEdit> {
        let edit = |edit| match edit {
            FieldEdit::Set(name, value) => edits::FieldEdit::Set((name, value)),
            FieldEdit::Append(name, value) => edits::FieldEdit::Append((name, value)),
            FieldEdit::Remove(name) => edits::FieldEdit::Remove(name),
        };
        fields.into_iter().map(edit).collect()
    }

    fn local_response(response: LocalResponse) -> edits::LocalResponse {
        edits::LocalResponse { status: response.status, fields: response.fields, body: response.body }
    }
}
