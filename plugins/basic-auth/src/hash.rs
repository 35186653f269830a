//! Hashes of passwords: argon2id and bcrypt.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64Bcrypt, Base64Unpadded, Encoding};

/// Bytes of a password that bcrypt looks at, with the zero after it.
const BCRYPT_BYTES: usize = 72;

/// What is kept in place of a password.
#[derive(Debug)]
pub(crate) enum Hash {
    Argon2 { params: Params, salt: Vec<u8>, output: Vec<u8> },
    Bcrypt { cost: u32, salt: [u8; 16], output: [u8; 23] },
}

impl Hash {
    /// Reads a hash as password tools write it: a PHC string, or bcrypt's own form.
    ///
    /// # Errors
    ///
    /// What is wrong with it, to follow "a hash that".
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = text.strip_prefix("$argon2id$") {
            return argon2(rest).ok_or("an argon2id hash that is not whole, or not of version 19");
        }
        let rest = ["$2y$", "$2b$", "$2a$"].iter().find_map(|prefix| text.strip_prefix(prefix));
        match rest {
            Some(rest) => bcrypt(rest).ok_or("a bcrypt hash that is not whole"),
            None => {
                Err("a hash that is neither argon2id (`$argon2id$…`) nor bcrypt (`$2y$…`, which `htpasswd -B` makes)")
            }
        }
    }

    /// The memory that a check needs, in blocks of argon2's.
    pub(crate) fn blocks(&self) -> usize {
        match self {
            Self::Argon2 { params, .. } => params.block_count(),
            Self::Bcrypt { .. } => 0,
        }
    }

    /// About how many microseconds a check takes.
    pub(crate) fn effort(&self) -> u64 {
        match self {
            Self::Argon2 { params, .. } => u64::from(params.m_cost()) * u64::from(params.t_cost()),
            Self::Bcrypt { cost, .. } => 50 << cost,
        }
    }

    /// Whether it is the hash of this password. Takes as long for a wrong one as for the right one.
    pub(crate) fn is_of(&self, password: &[u8], memory: &mut [Block]) -> bool {
        match self {
            Self::Argon2 { params, salt, output } => {
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                let mut made = vec![0; output.len()];
                argon2.hash_password_into_with_memory(password, salt, &mut made, memory).is_ok() && equal(&made, output)
            }
            Self::Bcrypt { cost, salt, output } => {
                // It ends at a zero, so a password with one inside would be another's.
                if password.contains(&0) {
                    return false;
                }
                let mut key = password.to_vec();
                key.push(0);
                key.truncate(BCRYPT_BYTES);
                equal(&bcrypt::bcrypt(*cost, *salt, &key)[..output.len()], output)
            }
        }
    }
}

/// `v=19$m=19456,t=2,p=1$salt$output`
fn argon2(text: &str) -> Option<Hash> {
    let mut parts = text.strip_prefix("v=19$")?.split('$');
    let (costs, salt, output) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let mut costs = costs.split(',');
    let mut cost = |name| costs.next()?.strip_prefix(name)?.parse().ok();
    let (m, t, p) = (cost("m=")?, cost("t=")?, cost("p=")?);
    let salt = Base64Unpadded::decode_vec(salt).ok().filter(|salt| salt.len() >= argon2::MIN_SALT_LEN)?;
    let output = Base64Unpadded::decode_vec(output).ok()?;
    let params = Params::new(m, t, p, Some(output.len())).ok()?;
    Some(Hash::Argon2 { params, salt, output })
}

/// `10$` with 22 characters of salt and 31 of output
fn bcrypt(text: &str) -> Option<Hash> {
    let (cost, rest) = text.split_once('$')?;
    let cost = cost.parse().ok().filter(|cost| (4..=31).contains(cost))?;
    let (salt, output) = (rest.get(..22)?, rest.get(22..)?);
    let salt = Base64Bcrypt::decode_vec(salt).ok()?.try_into().ok()?;
    let output = Base64Bcrypt::decode_vec(output).ok()?.try_into().ok()?;
    Some(Hash::Bcrypt { cost, salt, output })
}

/// In a time that does not tell where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the reference implementations.
    const HASHES: [(&str, &str); 4] = [
        ("secret", "$2b$04$.RAVuJFQPtcvkM4PJHQAcO.bezT7a9I/wySdQbcKTRsp5gSl0b3s6"),
        ("größer", "$2b$05$MEsy65bqepC1yrchHj/gmOJBROdGCnIqh4VGvHP7s28THfuCjS3bu"),
        ("secret", "$argon2id$v=19$m=64,t=1,p=2$Pr6bf+rZXkN/XMoauPlz6Q$Cg9KQQT1+bRsR1qr59d0V0xpV7VHNGq6qB9DjFzwaWI"),
        ("größer", "$argon2id$v=19$m=256,t=2,p=1$mYqCHs9wgW+EiOc8h7xXWQ$3LYc2Nz5iOY3/cFa5mirWw"),
    ];

    fn is_of(hash: &Hash, password: &[u8]) -> bool {
        hash.is_of(password, &mut vec![Block::default(); hash.blocks()])
    }

    #[test]
    fn hashes_of_other_implementations_are_understood() {
        for (password, text) in HASHES {
            let hash = Hash::parse(text).expect(text);

            assert!(is_of(&hash, password.as_bytes()), "{text}");
            for wrong in ["", "Secret", "secret ", "secret\0", "grösser"] {
                assert!(!is_of(&hash, wrong.as_bytes()), "{wrong} for {text}");
            }
        }
        let hash = Hash::parse(&HASHES[0].1.replace("$2b$", "$2y$")).expect("the same by another name");
        assert!(is_of(&hash, b"secret"));
    }

    #[test]
    fn a_hash_that_is_not_whole_is_refused() {
        for (_, text) in HASHES {
            for end in 0..text.len() {
                let cut = Hash::parse(&text[..end]);
                // A PHC string does not say how long its output is.
                assert!(cut.is_err() || (text.starts_with("$argon2") && end > text.rfind('$').expect("it has parts")));
            }
            assert!(Hash::parse(&format!("{text}$")).is_err());
        }
        for text in ["", "secret", "{SHA}x", "$1$x$y", "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$b3V0cHV0", "$2y$99$x"] {
            assert!(Hash::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_password_is_cut_by_bcrypt_as_everywhere() {
        let salt = [7; 16];
        let output = |password: &[u8]| bcrypt::bcrypt(4, salt, password)[..23].try_into().expect("23 bytes");
        let long = [b'x'; 100];

        let hash = Hash::Bcrypt { cost: 4, salt, output: output(&long[..72]) };

        assert!(is_of(&hash, &long) && is_of(&hash, &long[..72]) && !is_of(&hash, &long[..71]));
    }
}
