//! Sets a header of every request: `name` and `value` say which.

use staunch_plugin::{Config, FieldEdit, Invalid, RequestAction, RequestRewriter, Rewriter, RewriterNeeds, Wanted};

struct Plugin {
    name: String,
    value: String,
}

impl Rewriter for Plugin {
    fn configure(config: &Config, _: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["name", "value"]);
        let setting = |path, default: &str| config.get_or(path, default.to_owned());
        Ok(Self { name: setting("name", "x-hello"), value: setting("value", "world") })
    }
}

impl RequestRewriter for Plugin {
    fn on_request(&mut self, _: &Wanted) -> RequestAction {
        RequestAction::Fields(vec![FieldEdit::set(&*self.name, &*self.value)])
    }
}

staunch_plugin::export!(rewriter: Plugin + request);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::Host;

    use super::*;

    #[test]
    fn a_header_is_set() {
        let host = Host::new();
        let mut rewriter = host.rewriter::<Plugin>().expect("no setting is required");

        let action = rewriter.on_request(&host.wanted_of_request());

        assert_eq!(action, RequestAction::Fields(vec![FieldEdit::set("x-hello", "world")]));
    }
}
