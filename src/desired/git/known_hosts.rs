//! Which SSH servers are the ones that they say they are: a known-hosts file as OpenSSH reads it.

use sha1::{Digest, Sha1};
use ssh_key::KnownHosts;
use ssh_key::known_hosts::{HostPatterns, Marker};

/// Checks a server's key against the text of a known-hosts file.
///
/// # Errors
/// A sentence about the server that says why it is not trusted.
pub(super) fn check(text: &str, host: &str, port: u16, key: &[u8]) -> Result<(), String> {
    let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
    let mut known = false;
    for entry in KnownHosts::new(text) {
        let entry = entry.map_err(|error| format!("cannot be checked: the known-hosts file is damaged: {error}"))?;
        if !matches(entry.host_patterns(), &name) {
            continue;
        }
        let same = entry.public_key().to_bytes().is_ok_and(|bytes| bytes == key);
        match entry.marker() {
            Some(Marker::Revoked) if same => return Err("shows a key that was revoked".into()),
            // A certificate authority's own key signs keys of hosts; it is none.
            Some(Marker::Revoked | Marker::CertAuthority) => {}
            None if same => return Ok(()),
            None => known = true,
        }
    }
    Err(if known {
        "shows another key than the one that is known: somebody may be in between".into()
    } else {
        format!("is not in the known-hosts file: add the line that `ssh-keyscan -p {port} {host}` prints, once checked")
    })
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => {
            let mut found = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(pattern) if fits(pattern, name) => return false,
                    Some(_) => {}
                    None => found |= fits(pattern, name),
                }
            }
            found
        }
        HostPatterns::HashedName { salt, hash } => hmac_sha1(salt, name.as_bytes()) == *hash,
    }
}

/// `*` stands for any characters, `?` for one; case does not matter.
fn fits(pattern: &str, name: &str) -> bool {
    fn fits(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skip| fits(rest, &name[skip..])),
            Some((b'?', rest)) => !name.is_empty() && fits(rest, &name[1..]),
            Some((byte, rest)) => name.split_first().is_some_and(|(first, name)| first == byte && fits(rest, name)),
        }
    }
    fits(pattern.to_ascii_lowercase().as_bytes(), name.to_ascii_lowercase().as_bytes())
}

/// RFC 2104 over SHA-1, as OpenSSH hashes host names.
fn hmac_sha1(key: &[u8], message: &[u8]) -> [u8; 20] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..20].copy_from_slice(&Sha1::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha1::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha1::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn key() -> Vec<u8> {
        ssh_key::PublicKey::from_openssh(KEY).unwrap().to_bytes().unwrap()
    }

    #[test]
    fn a_host_is_known_by_name_port_pattern_or_hash() {
        for (line, port) in [
            (format!("git.plant,10.0.0.1 {KEY}"), 22),
            (format!("*.plant {KEY}"), 22),
            (format!("[git.plant]:2222 {KEY}"), 2222),
        ] {
            assert_eq!(check(&line, "git.plant", port, &key()), Ok(()), "{line}");
        }
        assert!(check(&format!("git.plant {KEY}"), "git.plant", 2222, &key()).unwrap_err().contains("is not in"));
        assert!(
            check(&format!("!git.plant,*.plant {KEY}"), "git.plant", 22, &key()).unwrap_err().contains("is not in")
        );
        assert!(check("", "git.plant", 22, &key()).unwrap_err().contains("ssh-keyscan -p 22 git.plant"));
    }

    #[test]
    fn hashes_are_those_of_rfc_2202() {
        let hex: String =
            hmac_sha1(b"Jefe", b"what do ya want for nothing?").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    }

    #[test]
    fn another_key_and_a_revoked_one_are_refused() {
        let mut other = key();
        *other.last_mut().unwrap() ^= 1;
        assert!(check(&format!("git.plant {KEY}"), "git.plant", 22, &other).unwrap_err().contains("another key"));
        let revoked = format!("@revoked * {KEY}\ngit.plant {KEY}");
        assert!(check(&revoked, "git.plant", 22, &key()).unwrap_err().contains("revoked"));
    }
}
