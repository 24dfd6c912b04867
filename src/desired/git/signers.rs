//! Who may sign commits: an allowed-signers file as `ssh-keygen` and git read it.

use ssh_key::public::KeyData;
use ssh_key::{PublicKey, SshSig};

/// The namespace in which git signs commits.
const NAMESPACE: &str = "git";

/// One line of the file.
#[derive(Debug, Clone)]
struct Signer {
    principals: String,
    key: PublicKey,
    /// Seconds since 1970 between which the key counts.
    from: Option<i64>,
    until: Option<i64>,
}

/// The keys that are trusted.
#[derive(Debug, Clone, Default)]
pub(super) struct Signers {
    signers: Vec<Signer>,
}

impl Signers {
    /// Reads the file.
    ///
    /// # Errors
    /// The first line that cannot be understood: a line that is passed over might be a restriction.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut signers = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(signer) = signer(line).map_err(|reason| format!("line {}: {reason}", index + 1))? {
                signers.push(signer);
            }
        }
        if signers.is_empty() { Err("names no signer of commits".into()) } else { Ok(Signers { signers }) }
    }

    /// Checks a signature and says whose it is. A key counts if it was valid both when the commit says that it was made,
    /// and when it was first `seen`.
    ///
    /// # Errors
    /// A sentence about the commit that says why it is not trusted.
    pub(super) fn verify(
        &self,
        signature: &[u8],
        payload: &[u8],
        revoked: &Revoked,
        committed: i64,
        seen: i64,
    ) -> Result<&str, String> {
        if signature.starts_with(b"-----BEGIN PGP") {
            return Err("is signed with OpenPGP; only SSH signatures can be checked".into());
        }
        let signature = SshSig::from_pem(signature).map_err(|error| format!("has an unreadable signature: {error}"))?;
        if revoked.0.iter().any(|key| key == signature.public_key()) {
            return Err("is signed with a key that was revoked".into());
        }
        let mut reason = "is signed with a key that is not an allowed signer's";
        for signer in &self.signers {
            if signer.key.key_data() != signature.public_key() {
                continue;
            }
            if signer.key.verify(NAMESPACE, payload, &signature).is_err() {
                return Err("has a wrong signature: the commit is not what was signed".into());
            }
            let is_valid =
                |at: i64| signer.from.is_none_or(|from| at >= from) && signer.until.is_none_or(|until| at <= until);
            if !is_valid(committed) {
                reason = "is signed with a key that is not valid at the commit's time";
                continue;
            }
            if !is_valid(seen) {
                reason = "is signed with a key that was no longer valid when the commit was first seen here";
                continue;
            }
            return Ok(&signer.principals);
        }
        Err(reason.into())
    }
}

/// How a list of revoked keys begins that `ssh-keygen -k` made (OpenSSH, PROTOCOL.krl).
const KRL: &[u8] = b"SSHKRL\n\0";

/// Keys whose signatures no longer count, whenever they were made.
#[derive(Debug, Clone, Default)]
pub(super) struct Revoked(Vec<KeyData>);

impl Revoked {
    /// Reads a file of public keys, one a line, as `gpg.ssh.revocationFile` may name it.
    ///
    /// # Errors
    /// The first line that cannot be understood: it may be the key that must not count.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.starts_with(KRL) {
            return Err("is a binary list of `ssh-keygen -k`; write the revoked public keys, one a line".into());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = PublicKey::from_openssh(line)
                .map_err(|error| format!("line {}: is no public key: {error}", index + 1))?;
            keys.push(key.key_data().clone());
        }
        Ok(Revoked(keys))
    }
}

/// `PRINCIPALS [OPTIONS] TYPE KEY [COMMENT]`; none for a key that is not for commits.
fn signer(line: &str) -> Result<Option<Signer>, String> {
    let mut words = words(line)?.into_iter();
    let principals = words.next().ok_or("is empty")?;
    let mut rest: Vec<String> = words.collect();
    let is_type = |word: &str| word.starts_with("ssh-") || word.starts_with("ecdsa-") || word.starts_with("sk-");
    let options = match rest.first() {
        Some(word) if !is_type(word) => rest.remove(0),
        Some(_) | None => String::new(),
    };
    let (mut from, mut until, mut for_commits) = (None, None, true);
    for option in split_options(&options) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = value.trim_matches('"');
        match name.to_ascii_lowercase().as_str() {
            "namespaces" => for_commits = value.split(',').any(|name| name.trim() == NAMESPACE || name.trim() == "*"),
            "valid-after" => from = Some(time(value)?),
            "valid-before" => until = Some(time(value)?),
            "cert-authority" => return Err("names a certificate authority, which is not supported".into()),
            other => return Err(format!("has the unknown option `{other}`")),
        }
    }
    let [kind, key, ..] = rest.as_slice() else { return Err("has no key".into()) };
    if kind == "ssh-rsa" {
        return Err("has an RSA key, which is not supported; use an Ed25519 one".into());
    }
    let key =
        PublicKey::from_openssh(&format!("{kind} {key}")).map_err(|error| format!("has no valid key: {error}"))?;
    Ok(for_commits.then_some(Signer { principals, key, from, until }))
}

/// Words between blanks; quotes keep blanks together and stay.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.push(c);
            }
            ' ' | '\t' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            _ => word.push(c),
        }
    }
    if quoted {
        return Err("has an open quote".into());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// Options are separated by commas outside quotes.
fn split_options(options: &str) -> Vec<&str> {
    let mut quoted = false;
    let is_separator = |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    options.split(is_separator).filter(|option| !option.is_empty()).collect()
}

/// `YYYYMMDD[HHMM[SS]][Z]` as seconds since 1970. Without the `Z` OpenSSH means local time; here it is UTC too,
/// since containers have no other.
fn time(text: &str) -> Result<i64, String> {
    let wrong = || format!("has the time `{text}`, which is not YYYYMMDD[HHMM[SS]][Z]");
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number = |from: usize, to: usize| digits.get(from..to).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let (year, month, day) = (number(0, 4), number(4, 6), number(6, 8));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(wrong());
    }
    // Days since 1970, in years that begin in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
            - 719_469;
    Ok(days * 86_400 + number(8, 10) * 3_600 + number(10, 12) * 60 + number(12, 14))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    #[test]
    fn the_file_is_read_as_ssh_keygen_reads_it() {
        let text = format!(
            "# people\n\nann@plant {KEY} ann\nbob@plant,*@line namespaces=\"git,file\",valid-after=\"20260101Z\" {KEY}\n"
        );
        let signers = Signers::parse(&text).unwrap().signers;
        assert_eq!(signers.len(), 2);
        assert_eq!(signers[1].principals, "bob@plant,*@line");
        assert_eq!(signers[1].from, Some(1_767_225_600));
        let files_only = format!("ann@plant namespaces=\"file\" {KEY}");
        assert_eq!(Signers::parse(&files_only).unwrap_err(), "names no signer of commits");
    }

    #[test]
    fn what_is_not_understood_is_refused_rather_than_passed_over() {
        for (line, reason) in [
            (format!("ann cert-authority {KEY}"), "line 1: names a certificate authority"),
            (format!("ann magic=1 {KEY}"), "line 1: has the unknown option `magic`"),
            ("ann ssh-ed25519 nonsense".into(), "line 1: has no valid key"),
            ("ann ssh-rsa AAAA".into(), "line 1: has an RSA key"),
            ("ann".into(), "line 1: has no key"),
            (format!("ann valid-before=\"soon\" {KEY}"), "line 1: has the time `soon`"),
            ("# nobody".into(), "names no signer"),
        ] {
            let error = Signers::parse(&line).unwrap_err();
            assert!(error.starts_with(reason), "{line}: {error}");
        }
    }

    #[test]
    fn revoked_keys_are_listed_one_a_line() {
        let revoked = Revoked::parse(format!("# left\n\n{KEY} ann\n").as_bytes()).unwrap();
        assert_eq!(revoked.0, [PublicKey::from_openssh(KEY).unwrap().key_data().clone()]);
        assert!(Revoked::parse(b"").unwrap().0.is_empty());
        for (bytes, reason) in [
            (&b"SSHKRL\n\0rest"[..], "is a binary list"),
            (b"\xff", "is not UTF-8"),
            (b"\nann ssh-ed25519 AAAA", "line 2: is no public key"),
        ] {
            let error = Revoked::parse(bytes).unwrap_err();
            assert!(error.starts_with(reason), "{error}");
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time("19700101").unwrap(), 0);
        assert_eq!(time("20240229123456Z").unwrap(), 1_709_210_096);
    }
}
