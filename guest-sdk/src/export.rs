//! How a type of the author's becomes the exports of a component.

/// Exports a type as the plugin of its crate, which is a `cdylib`. Once in a crate.
///
/// ```text
/// staunch_plugin::export!(balancer: MyType);
/// staunch_plugin::export!(retry: MyType);
/// staunch_plugin::export!(rewriter: MyType + request);
/// ```
///
/// Each further part is a trait that the type implements:
///
/// | kind | part | trait |
/// |---|---|---|
/// | `balancer` | `feedback` | [`Feedback`](crate::Feedback) |
/// | `rewriter` | `request`, `response`: at least one | [`RequestRewriter`](crate::RequestRewriter), [`ResponseRewriter`](crate::ResponseRewriter) |
/// | `rewriter` | `request_body`, `response_body` | [`RequestBodyRewriter`](crate::RequestBodyRewriter), [`ResponseBodyRewriter`](crate::ResponseBodyRewriter) |
/// | any | `handover` | [`Handover`](crate::Handover) |
///
/// In a native build it only checks that the type implements these traits.
#[macro_export]
macro_rules! export {
    (balancer: $plugin:ident $(+ $part:ident)*) => {
        $crate::__export!($plugin, BalancerExport, lifecycle balancer $($part)*);
    };
    (retry: $plugin:ident $(+ $part:ident)*) => {
        $crate::__export!($plugin, RetryExport, lifecycle retry $($part)*);
    };
    (rewriter: $plugin:ident $(+ $part:ident)+) => {
        $crate::__export!($plugin, RewriterExport, lifecycle $($part)*);
    };
    ($($other:tt)*) => {
        ::std::compile_error!(
            "write `balancer: MyType`, `retry: MyType` or `rewriter: MyType + request`, with what else it implements \
             behind a `+`: `feedback`, `request`, `response`, `request_body`, `response_body`, `handover`"
        );
    };
}

#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ident, $export:ident, $($part:ident)+) => {
        const _: () = {
            $($crate::__part!($plugin $part);)+
        };
    };
}

#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __part {
    ($plugin:ident lifecycle) => {};
    ($plugin:ident balancer) => { $crate::__part!($plugin: Balancer); };
    ($plugin:ident feedback) => { $crate::__part!($plugin: Feedback); };
    ($plugin:ident retry) => { $crate::__part!($plugin: Retry); };
    ($plugin:ident request) => { $crate::__part!($plugin: RequestRewriter); };
    ($plugin:ident response) => { $crate::__part!($plugin: ResponseRewriter); };
    ($plugin:ident request_body) => { $crate::__part!($plugin: RequestBodyRewriter); };
    ($plugin:ident response_body) => { $crate::__part!($plugin: ResponseBodyRewriter); };
    ($plugin:ident handover) => { $crate::__part!($plugin: Handover); };
    ($plugin:ident: $implemented:ident) => {
        const _: () = {
            const fn implements<T: $crate::$implemented>() {}
            implements::<$plugin>();
        };
    };
    ($plugin:ident $other:ident) => {
        ::std::compile_error!(::std::concat!("there is no part `", ::std::stringify!($other), "`"));
    };
}

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ident, $export:ident, $($part:ident)+) => {
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
            $($crate::__part!($plugin $part);)+
        };
    };
}

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! __part {
    ($plugin:ident lifecycle) => {
        $crate::bindings::lifecycle::__export_lifecycle!(Export with_types_in $crate::bindings::lifecycle);
    };
    ($plugin:ident balancer) => {
        $crate::bindings::balancer::__export_balancer!(Export with_types_in $crate::bindings::balancer);
    };
    ($plugin:ident feedback) => {
        $crate::bindings::feedback::__export_feedback!(Export with_types_in $crate::bindings::feedback);
    };
    ($plugin:ident retry) => {
        $crate::bindings::retry::__export_retry!(Export with_types_in $crate::bindings::retry);
    };
    ($plugin:ident request) => {
        $crate::bindings::request_rewriter::__export_request_rewriter!(
            Export with_types_in $crate::bindings::request_rewriter
        );
    };
    ($plugin:ident response) => {
        $crate::bindings::response_rewriter::__export_response_rewriter!(
            Export with_types_in $crate::bindings::response_rewriter
        );
    };
    ($plugin:ident request_body) => {
        ::std::thread_local! {
            static REQUEST_BODIES: $crate::export::Bodies<<$plugin as $crate::RequestBodyRewriter>::Body> =
                const { $crate::export::Bodies::new() };
        }

        impl $crate::export::KeptRequestBodies for $plugin {
            const BODIES: &'static ::std::thread::LocalKey<$crate::export::Bodies<Self::Body>> = &REQUEST_BODIES;
        }

        $crate::bindings::request_body::__export_request_body!(Export with_types_in $crate::bindings::request_body);
    };
    ($plugin:ident response_body) => {
        ::std::thread_local! {
            static RESPONSE_BODIES: $crate::export::Bodies<<$plugin as $crate::ResponseBodyRewriter>::Body> =
                const { $crate::export::Bodies::new() };
        }

        impl $crate::export::KeptResponseBodies for $plugin {
            const BODIES: &'static ::std::thread::LocalKey<$crate::export::Bodies<Self::Body>> = &RESPONSE_BODIES;
        }

        $crate::bindings::response_body::__export_response_body!(Export with_types_in $crate::bindings::response_body);
    };
    ($plugin:ident handover) => {
        $crate::bindings::handover::__export_handover!(Export with_types_in $crate::bindings::handover);
    };
    ($plugin:ident $other:ident) => {
        ::std::compile_error!(::std::concat!("there is no part `", ::std::stringify!($other), "`"));
    };
}

#[cfg(target_arch = "wasm32")]
pub use adapters::{BalancerExport, Bodies, Kept, KeptRequestBodies, KeptResponseBodies, RetryExport, RewriterExport};

#[cfg(target_arch = "wasm32")]
mod adapters {
    //! Between the generated exports and the traits of this crate.

    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::marker::PhantomData;
    use std::thread::LocalKey;
    use std::time::Duration;

    use crate::bindings::imports::staunch::plugin::{edits, types};
    use crate::bindings::request_rewriter::exports::staunch::plugin::request_rewriter;
    use crate::bindings::response_rewriter::exports::staunch::plugin::response_rewriter;
    use crate::bindings::{balancer, feedback, handover, lifecycle, request_body, response_body, retry};
    use crate::{
        AttemptContext, Balancer, BalancerNeeds, Config, Endpoint, EndpointChange, Endpoints, Failure, Feedback,
        FieldEdit, Handover, Instant, Invalid, LocalResponse, MethodKind, Outcome, PickContext, PickError,
        RequestAction, RequestBodyRewriter, RequestRewriter, ResponseAction, ResponseBodyRewriter, ResponseRewriter,
        Retry, RetryNeeds, Rewriter, RewriterNeeds, Sample, TargetEdit, Wanted, clock,
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

    /// The bodies that a rewriter has under way, by the host's names for them.
    pub struct Bodies<B>(RefCell<BTreeMap<u32, B>>);

    impl<B> Bodies<B> {
        pub const fn new() -> Self {
            Self(RefCell::new(BTreeMap::new()))
        }

        fn begin(&self, body: u32, begun: Option<B>) -> bool {
            let rewritten = begun.is_some();
            if let Some(begun) = begun {
                self.0.borrow_mut().insert(body, begun);
            }
            rewritten
        }

        /// A body that is not under way passes as it is.
        fn rewrite(
            &self,
            body: u32,
            piece: Vec<u8>,
            last: bool,
            rewrite: impl FnOnce(&mut B, Vec<u8>) -> Vec<u8>,
        ) -> Vec<u8> {
            let mut bodies = self.0.borrow_mut();
            let rewritten = match bodies.get_mut(&body) {
                Some(state) => rewrite(state, piece),
                None => piece,
            };
            if last {
                bodies.remove(&body);
            }
            rewritten
        }

        fn abandon(&self, body: u32) {
            self.0.borrow_mut().remove(&body);
        }
    }

    pub trait KeptRequestBodies: RequestBodyRewriter + Kept {
        const BODIES: &'static LocalKey<Bodies<Self::Body>>;
    }

    pub trait KeptResponseBodies: ResponseBodyRewriter + Kept {
        const BODIES: &'static LocalKey<Bodies<Self::Body>>;
    }

    impl<T: KeptRequestBodies> request_body::exports::staunch::plugin::request_body_rewriter::Guest for RewriterExport<T> {
        fn begin(body: u32) -> bool {
            let begun = with(|plugin: &mut T| plugin.begin()).flatten();
            T::BODIES.with(|bodies| bodies.begin(body, begun))
        }

        fn rewrite(body: u32, piece: Vec<u8>, last: bool) -> Vec<u8> {
            T::BODIES.with(|bodies| {
                bodies.rewrite(body, piece, last, |state, piece| {
                    with(|plugin: &mut T| plugin.rewrite(state, piece, last)).unwrap_or_default()
                })
            })
        }

        fn abandon(body: u32) {
            T::BODIES.with(|bodies| bodies.abandon(body));
        }
    }

    impl<T: KeptResponseBodies> response_body::exports::staunch::plugin::response_body_rewriter::Guest
        for RewriterExport<T>
    {
        fn begin(body: u32) -> bool {
            let begun = with(|plugin: &mut T| plugin.begin()).flatten();
            T::BODIES.with(|bodies| bodies.begin(body, begun))
        }

        fn rewrite(body: u32, piece: Vec<u8>, last: bool) -> Vec<u8> {
            T::BODIES.with(|bodies| {
                bodies.rewrite(body, piece, last, |state, piece| {
                    with(|plugin: &mut T| plugin.rewrite(state, piece, last)).unwrap_or_default()
                })
            })
        }

        fn abandon(body: u32) {
            T::BODIES.with(|bodies| bodies.abandon(body));
        }
    }

    macro_rules! hands_over {
        ($($export:ident)+) => {
            $(
                impl<T: Handover + Kept> handover::exports::staunch::plugin::handover::Guest for $export<T> {
                    fn save() -> Vec<u8> {
                        with(|plugin: &mut T| plugin.save()).unwrap_or_default()
                    }

                    fn restore(state: Vec<u8>) {
                        with(|plugin: &mut T| plugin.restore(&state));
                    }
                }
            )+
        };
    }

    hands_over!(BalancerExport RetryExport RewriterExport);

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
