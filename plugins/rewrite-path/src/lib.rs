//! The rewriter `rewrite-path`: what an endpoint sees as the path.

mod rule;

use staunch_plugin::{
    Config, FieldEdit, Invalid, RequestAction, RequestRewriter, Rewriter, RewriterNeeds, TargetEdit, Wanted,
    template::Facts,
};

use rule::Rule;

struct RewritePath {
    rule: Rule,
    keep_query: bool,
    /// Whether the endpoint is told of a prefix that it does not see.
    tell: bool,
}

impl Rewriter for RewritePath {
    fn configure(config: &Config, _: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["prefix", "regex", "to", "keep_query", "forwarded_prefix"]);
        let (keep_query, tell) = (config.get_or("keep_query", true), config.get_or("forwarded_prefix", false));
        if tell && !config.has("prefix") {
            config.issue("forwarded_prefix", "is for `prefix` only");
        }
        Ok(Self { rule: Rule::read(config)?, keep_query, tell })
    }
}

impl RequestRewriter for RewritePath {
    fn on_request(&mut self, _: &Wanted) -> RequestAction {
        let facts = Facts::of_this_exchange();
        let Some(mut target) = self.rule.apply(&facts) else { return RequestAction::Proceed };
        if self.keep_query && !facts.query().is_empty() {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(facts.query());
        }
        // What a variable brought in may be no path: then the request stays as it is.
        let Some(edit) = TargetEdit::path_and_query(target) else { return RequestAction::Proceed };
        let told = self.rule.prefix().filter(|_| self.tell);
        let fields = told.map(|prefix| FieldEdit::set("x-forwarded-prefix", prefix)).into_iter().collect();
        RequestAction::Rewrite(vec![edit], fields)
    }
}

staunch_plugin::export!(rewriter: RewritePath + request);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use staunch_plugin::testing::{Host, Request};

    use super::*;

    fn on_request(settings: &[(&str, &str)], target: &str) -> RequestAction {
        let host = Host::new();
        settings.iter().for_each(|(name, value)| host.set(name, value));
        let mut rewriter: RewritePath = host.rewriter().unwrap_or_else(|issues| panic!("{issues}"));
        host.set_request(Request { path_and_query: target.into(), ..Request::default() });
        rewriter.on_request(&Wanted::default())
    }

    /// What a target becomes; nothing when it passes.
    fn rewritten(settings: &[(&str, &str)], target: &str) -> Option<String> {
        match on_request(settings, target) {
            RequestAction::Proceed => None,
            RequestAction::Rewrite(target, _) => match &target[..] {
                [TargetEdit::PathAndQuery(target)] => Some(target.clone()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check<const N: usize>(settings: &[(&str, &str)], rows: [(&str, Option<&str>); N]) {
        for (target, expected) in rows {
            assert_eq!(rewritten(settings, target).as_deref(), expected, "for {target} with {settings:?}");
        }
    }

    #[test]
    fn a_prefix_is_taken_off_at_a_segment_boundary() {
        for prefix in ["/api", "/api/"] {
            check(
                &[("prefix", prefix)],
                [
                    ("/api/users?id=1", Some("/users?id=1")),
                    ("/api", Some("/")),
                    ("/api/", Some("/")),
                    ("/api?x", Some("/?x")),
                    ("/api//x", Some("//x")),
                    ("/apix", None),
                    ("/API/x", None),
                    ("/", None),
                ],
            );
        }
    }

    #[test]
    fn a_prefix_is_replaced_by_another() {
        for to in ["/v2", "/v2/"] {
            check(
                &[("prefix", "/api"), ("to", to)],
                [("/api/users", Some("/v2/users")), ("/api/", Some("/v2/")), ("/other", None)],
            );
        }
        check(&[("prefix", "/api"), ("to", "/v2")], [("/api", Some("/v2"))]);
        check(&[("prefix", "/"), ("to", "/shop")], [("/cart?x", Some("/shop/cart?x")), ("/", Some("/shop/"))]);
        check(&[("prefix", "/"), ("to", "/$host")], [("/a", Some("/example.com/a"))]);
    }

    #[test]
    fn the_endpoint_may_be_told_what_was_taken_off() {
        let settings = [("prefix", "/api/"), ("forwarded_prefix", "true")];

        let RequestAction::Rewrite(_, fields) = on_request(&settings, "/api/x") else { panic!("it is rewritten") };

        assert_eq!(fields, [FieldEdit::set("x-forwarded-prefix", "/api")]);
    }

    #[test]
    fn a_regular_expression_takes_a_path_apart() {
        check(
            &[("regex", r"^/(?P<lang>\w\w)/item/(\d+)$"), ("to", "/item?id=$2&lang=${lang}")],
            [
                ("/en/item/7", Some("/item?id=7&lang=en")),
                ("/en/item/7?a=b", Some("/item?id=7&lang=en&a=b")),
                ("/en/item/x", None),
            ],
        );
        // All of the path is replaced, as by nginx's `rewrite`, not what matched alone.
        check(&[("regex", "old"), ("to", "/new")], [("/very/old/path", Some("/new")), ("/young", None)]);
    }

    #[test]
    fn the_query_may_be_dropped() {
        check(&[("prefix", "/a"), ("keep_query", "false")], [("/a/b?c", Some("/b"))]);
    }

    #[test]
    fn what_would_be_no_path_is_not_put_there() {
        check(&[("regex", "^/(.*)$"), ("to", "$1")], [("/x", None), ("//x", Some("/x"))]);
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        for (settings, expected) in [
            (&[][..], "must have one of `prefix` and `regex`"),
            (&[("prefix", "/a"), ("regex", "b"), ("to", "/")], "must have one of `prefix` and `regex`"),
            (&[("prefix", "a")], "`prefix` must begin with `/`, and have neither `?` nor `#`"),
            (&[("prefix", "/a?b")], "`prefix` must begin with `/`, and have neither `?` nor `#`"),
            (&[("prefix", "/a"), ("to", "b")], "`to` must begin with `/`"),
            (&[("regex", "a")], "`to` is required"),
            (&[("regex", "a"), ("to", "/$1")], "`to` has the unknown variable `$1`; did you mean `$0`?"),
            (&[("regex", "a"), ("to", "/"), ("forwarded_prefix", "true")], "`forwarded_prefix` is for `prefix` only"),
        ] {
            let host = Host::new();
            settings.iter().for_each(|(name, value)| host.set(name, value));
            let issues = host.rewriter::<RewritePath>().err().expect("they are refused");
            assert_eq!(issues.to_string(), expected, "for {settings:?}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_put_on_is_the_one_taken_off(path in "/[!-\"$->@-~]{0,20}", query in "(\\?[!-\"$-~]{1,9})?") {
            let target = format!("{path}{query}");
            let longer = rewritten(&[("prefix", "/"), ("to", "/a/b")], &target).expect("every path begins so");
            prop_assert_eq!(&longer, &format!("/a/b{target}"));
            prop_assert_eq!(rewritten(&[("prefix", "/a/b")], &longer), Some(target));
        }
    }
}
