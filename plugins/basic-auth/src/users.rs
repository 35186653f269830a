//! Who may pass, with which password.

use std::collections::BTreeMap;

use argon2::Block;
use staunch_plugin::Config;

use crate::hash::Hash;

/// The users with the hashes of their passwords.
#[derive(Debug)]
pub(crate) struct Users {
    hashes: BTreeMap<String, Hash>,
    /// Whose hash is the dearest to check: it stands in for that of a user who does not exist.
    dearest: String,
    /// What argon2 works in, as much as any hash needs: had once, so that a lack of it shows at the start.
    memory: Vec<Block>,
}

impl Users {
    /// Reads `users`, lines as `htpasswd` writes them, and notes what is wrong with them.
    pub(crate) fn read(config: &Config) -> Self {
        let texts: Vec<String> = config.values("users");
        let lines = texts.iter().flat_map(|text| text.lines()).map(str::trim);
        let mut hashes = BTreeMap::new();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match parse(line) {
                Ok((user, hash)) => {
                    if hashes.insert(user.to_owned(), hash).is_some() {
                        config.issue("users", format!("has `{user}` twice"));
                    }
                }
                Err(wrong) => {
                    config.issue("users", format!("has {wrong}"));
                }
            }
        }
        if texts.iter().all(|text| text.trim().is_empty()) {
            config.issue("users", "is required");
        }
        let dearest = hashes.iter().max_by_key(|(_, hash)| hash.effort()).map(|(user, _)| user.clone());
        let blocks = hashes.values().map(Hash::blocks).max().unwrap_or(0);
        Self { hashes, dearest: dearest.unwrap_or_default(), memory: vec![Block::default(); blocks] }
    }

    /// Whether this is the user's password. It takes as long for a user who does not exist.
    pub(crate) fn check(&mut self, user: &str, password: &[u8]) -> bool {
        let known = self.hashes.get(user);
        let Some(hash) = known.or_else(|| self.hashes.get(&self.dearest)) else { return false };
        hash.is_of(password, &mut self.memory) && known.is_some()
    }
}

fn parse(line: &str) -> Result<(&str, Hash), String> {
    let (user, hash) = line.split_once(':').ok_or("a line without `:` between user and hash")?;
    if user.is_empty() {
        return Err("a line without a user".to_owned());
    }
    Hash::parse(hash).map(|hash| (user, hash)).map_err(|wrong| format!("for `{user}` {wrong}"))
}
