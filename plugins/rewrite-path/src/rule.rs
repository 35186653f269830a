//! What becomes of a path: another prefix, or what a regular expression makes of it.

use regex_lite::Regex;
use staunch_plugin::template::{Facts, Template};
use staunch_plugin::{Config, Invalid};

/// How paths are changed.
pub(crate) enum Rule {
    /// Of segments, so without a slash at its end.
    Prefix {
        prefix: String,
        to: Template,
    },
    Regex {
        regex: Regex,
        to: Template,
    },
}

impl Rule {
    /// Reads `prefix`, `regex` and `to`, and notes what is wrong with them.
    pub(crate) fn read(config: &Config) -> Result<Self, Invalid> {
        match (config.get::<String>("prefix"), config.get::<String>("regex")) {
            (Some(prefix), None) => {
                if !prefix.starts_with('/') || prefix.contains(['?', '#']) {
                    config.issue("prefix", "must begin with `/`, and have neither `?` nor `#`");
                }
                let to = config.get::<String>("to").unwrap_or_default();
                if !to.is_empty() && !to.starts_with('/') {
                    config.issue("to", "must begin with `/`");
                }
                let to = template(config, to.trim_end_matches('/'), &[])?;
                Ok(Self::Prefix { prefix: prefix.trim_end_matches('/').to_owned(), to })
            }
            (None, Some(regex)) => {
                let regex =
                    Regex::new(&regex).map_err(|error| config.issue("regex", format!("is not right: {error}")))?;
                let names = regex.capture_names().enumerate();
                let names: Vec<String> =
                    names.map(|(number, name)| name.map_or(number.to_string(), str::to_owned)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let to: String = config.required("to")?;
                Ok(Self::Regex { to: template(config, &to, &names)?, regex })
            }
            _ => Err(config.issue("", "must have one of `prefix` and `regex`")),
        }
    }

    /// The prefix that is replaced, without a slash at its end.
    pub(crate) fn prefix(&self) -> Option<&str> {
        match self {
            Self::Prefix { prefix, .. } => Some(prefix),
            Self::Regex { .. } => None,
        }
    }

    /// What the path becomes, perhaps with a query; nothing when the rule is not about it.
    pub(crate) fn apply(&self, facts: &Facts) -> Option<String> {
        match self {
            Self::Prefix { prefix, to } => {
                let rest = facts.path().strip_prefix(&**prefix)?;
                let is_whole = rest.is_empty() || rest.starts_with('/');
                let path = is_whole.then(|| to.render(facts) + rest)?;
                Some(if path.is_empty() { "/".to_owned() } else { path })
            }
            Self::Regex { regex, to } => {
                let found = regex.captures(facts.path())?;
                Some(to.render_with(facts, |number| found.get(number).map_or("", |group| group.as_str())))
            }
        }
    }
}

fn template(config: &Config, text: &str, own: &[&str]) -> Result<Template, Invalid> {
    Template::with_own(text, own).map_err(|wrong| config.issue("to", wrong))
}
