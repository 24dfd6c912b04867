//! Git's smart HTTP protocol (version 0), as far as fetching needs it: what branches there are, and the objects
//! that are missing here.
//!
//! Spoken by our own client rather than by libgit2's, which can neither be given a certificate authority nor a
//! time limit without unsafe code, and which cannot be interrupted.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::mpsc;

use super::clone::{Depth, Held};
use super::options::Credentials;
use super::trouble::{denied, disk, missing, other, unreachable};
use crate::desired::remote::chain;
use crate::model::{SourceTrouble, TroubleReason};

/// Most bytes of a list of branches and tags: a million of them.
const MAX_REFS_BYTES: usize = 64 * 1024 * 1024;

/// Most bytes of objects in one fetch: a repository of manifests has some megabytes of history.
const MAX_PACK_BYTES: u64 = 512 * 1024 * 1024;

/// Longest packet (gitprotocol-common: `LARGE_PACKET_MAX`).
const MAX_PACKET: usize = 65_520;

/// What a repository has: commit ids by the full name of branch or tag.
#[derive(Debug, Default)]
pub(super) struct Advertised {
    pub(super) refs: BTreeMap<String, String>,
    /// The full name of the default branch.
    pub(super) head: Option<String>,
    /// What the server can do.
    abilities: BTreeSet<String>,
    /// Where the repository really is, after redirects.
    base: Option<Url>,
}

/// A piece of a pack, or its end: one that stops without is not whole.
pub(super) enum Piece {
    Data(Vec<u8>),
    End,
}

/// What a server is asked for.
#[derive(Debug)]
pub(super) struct Ask {
    /// The id of what is wanted.
    pub(super) want: String,
    /// What is here, with all that it refers to but for the history of what is shallow.
    pub(super) held: Held,
    /// How much of the history; none for all that is not here.
    pub(super) depth: Option<Depth>,
    /// Folders and files are not needed, if the server can leave them out.
    pub(super) commits_only: bool,
}

/// One repository behind HTTPS.
pub(super) struct SmartHttp {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) credentials: Credentials,
}

impl SmartHttp {
    /// Asks which branches and tags there are: one round trip.
    pub(super) async fn advertised(&self) -> Result<Advertised, SourceTrouble> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/info/refs", url.path().trim_end_matches('/')));
        url.set_query(Some("service=git-upload-pack"));
        let mut response = self.send(self.client.get(url.clone()), &url).await?;
        let mut base = response.url().clone();
        base.set_query(None);
        let path = base.path().trim_end_matches("/info/refs").to_owned();
        base.set_path(&path);
        let mut packets = Packets::default();
        let mut bytes = 0;
        let mut advertised = Advertised { base: Some(base), ..Advertised::default() };
        let mut greeted = false;
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
            bytes += chunk.len();
            if bytes > MAX_REFS_BYTES {
                return Err(other("the server lists more branches than can be believed"));
            }
            packets.push(&chunk);
            while let Some(packet) = packets.next()? {
                match packet {
                    Packet::Data(line) if line.starts_with(b"# service=git-upload-pack") => greeted = true,
                    Packet::Data(line) if greeted => advertised.take(&line)?,
                    Packet::Data(_) => return Err(not_git()),
                    Packet::Flush => {}
                }
            }
        }
        if greeted { Ok(advertised) } else { Err(not_git()) }
    }

    /// Asks for objects that are not here.
    pub(super) async fn pack(
        &self,
        advertised: &Advertised,
        ask: &Ask,
        sink: &mpsc::Sender<Piece>,
    ) -> Result<(), SourceTrouble> {
        let mut url = advertised.base.clone().unwrap_or_else(|| self.url.clone());
        url.set_path(&format!("{}/git-upload-pack", url.path().trim_end_matches('/')));
        let body = advertised.request(ask);
        let request = self
            .client
            .post(url.clone())
            .header("Content-Type", "application/x-git-upload-pack-request")
            .header("Accept", "application/x-git-upload-pack-result")
            .body(body);
        let mut response = self.send(request, &url).await?;
        let mut packets = Packets::default();
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
            bytes += chunk.len() as u64;
            if bytes > MAX_PACK_BYTES {
                return Err(other(format!("the repository is larger than {} MiB", MAX_PACK_BYTES >> 20)));
            }
            packets.push(&chunk);
            while let Some(packet) = packets.next()? {
                let Packet::Data(packet) = packet else { continue };
                match packet.split_first() {
                    Some((1, data)) => {
                        let gone = |_| disk("what was fetched cannot be kept");
                        sink.send(Piece::Data(data.to_vec())).await.map_err(gone)?;
                    }
                    Some((3, reason)) => return Err(refused(reason)),
                    _ if packet.starts_with(b"ERR ") => return Err(refused(&packet[4..])),
                    // Progress, and what the server has in common with us.
                    _ => {}
                }
            }
        }
        sink.send(Piece::End).await.map_err(|_| disk("what was fetched cannot be kept"))
    }

    async fn send(&self, request: RequestBuilder, to: &Url) -> Result<Response, SourceTrouble> {
        // A redirect to somebody else's host does not get our credentials.
        let ours =
            to.host_str() == self.url.host_str() && to.port_or_known_default() == self.url.port_or_known_default();
        let request = match (&self.credentials.token, ours) {
            (Some(token), true) => request.basic_auth(self.credentials.user(), Some(token.trim())),
            (Some(_), false) | (None, _) => request,
        };
        let response = request.send().await.map_err(|error| broken(&error))?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(denied()),
            StatusCode::NOT_FOUND => Err(missing("there is no such repository, or it may not be read (HTTP 404)")
                .hint("check the URL, and that the token may read it")),
            status => Err(unreachable(format!("the server says HTTP {}", status.as_u16()))),
        }
    }
}

impl Advertised {
    /// The request (gitprotocol-pack: "Packfile Negotiation"), in one turn: what we have is said at once, and that this
    /// is all.
    fn request(&self, ask: &Ask) -> String {
        let can = |ability: &str| self.abilities.contains(ability);
        let mut wanted = format!("want {} side-band-64k ofs-delta no-progress", ask.want);
        let is_cut = ask.depth.is_some() || !ask.held.shallow.is_empty();
        if is_cut && can("shallow") {
            wanted.push_str(" shallow");
        }
        if ask.commits_only && can("filter") {
            wanted.push_str(" filter");
        }
        wanted.push_str(concat!(" agent=ofop/", env!("CARGO_PKG_VERSION"), "\n"));
        let mut body = packet(&wanted);
        if can("shallow") {
            for commit in &ask.held.shallow {
                body.push_str(&packet(&format!("shallow {commit}\n")));
            }
            if let Some(depth) = ask.depth {
                body.push_str(&packet(&format!("deepen {}\n", depth.commits())));
            }
        }
        if ask.commits_only && can("filter") {
            body.push_str(&packet("filter tree:0\n"));
        }
        body.push_str("0000");
        // A server that knows nothing of missing history would leave out what only that has.
        if can("shallow") || ask.held.shallow.is_empty() {
            for have in &ask.held.tips {
                body.push_str(&packet(&format!("have {have}\n")));
            }
        }
        body.push_str(&packet("done\n"));
        body
    }

    /// `<id> <name>`, on the first line followed by a NUL and what the server can do.
    fn take(&mut self, line: &[u8]) -> Result<(), SourceTrouble> {
        let text = std::str::from_utf8(line).map_err(|_| not_git())?.trim_end_matches('\n');
        if let Some(reason) = text.strip_prefix("ERR ") {
            return Err(refused(reason.as_bytes()));
        }
        let (text, abilities) = text.split_once('\0').unwrap_or((text, ""));
        for ability in abilities.split(' ') {
            if let Some(branch) = ability.strip_prefix("symref=HEAD:") {
                self.head = Some(branch.to_owned());
            }
            self.abilities.insert(ability.to_owned());
        }
        let (id, name) = text.split_once(' ').ok_or_else(not_git)?;
        if id.len() < 40 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(not_git());
        }
        // An empty repository says so by a name that is none.
        if name != "capabilities^{}" {
            self.refs.insert(name.to_owned(), id.to_owned());
        }
        Ok(())
    }
}

/// Cuts a stream into packets: four hexadecimal digits of length, then the content.
#[derive(Default)]
struct Packets {
    bytes: Vec<u8>,
    begin: usize,
}

enum Packet {
    Data(Vec<u8>),
    Flush,
}

impl Packets {
    fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.begin);
        self.begin = 0;
        self.bytes.extend_from_slice(chunk);
    }

    fn next(&mut self) -> Result<Option<Packet>, SourceTrouble> {
        let rest = &self.bytes[self.begin..];
        let Some(length) = rest.get(..4) else { return Ok(None) };
        let length = std::str::from_utf8(length).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        match length {
            Some(0..=2) => {
                self.begin += 4;
                Ok(Some(Packet::Flush))
            }
            Some(length @ 4..=MAX_PACKET) => match rest.get(4..length) {
                Some(data) => {
                    let data = data.to_vec();
                    self.begin += length;
                    Ok(Some(Packet::Data(data)))
                }
                None => Ok(None),
            },
            Some(_) | None => Err(not_git()),
        }
    }
}

fn packet(line: &str) -> String {
    format!("{:04x}{line}", line.len() + 4)
}

fn not_git() -> SourceTrouble {
    unreachable("the server does not speak git's smart HTTP protocol").hint("check the URL of the repository")
}

fn refused(reason: &[u8]) -> SourceTrouble {
    let reason: String = String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).take(200).collect();
    SourceTrouble::new(TroubleReason::Denied, format!("the server refuses: {reason}"))
}

fn broken(error: &reqwest::Error) -> SourceTrouble {
    unreachable(format!("the repository cannot be reached: {}", chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertise(lines: &[&str]) -> Result<Advertised, SourceTrouble> {
        let mut advertised = Advertised::default();
        lines.iter().try_for_each(|line| advertised.take(line.as_bytes()))?;
        Ok(advertised)
    }

    #[test]
    fn branches_and_the_default_one_are_read() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        let first = format!("{id} HEAD\0multi_ack symref=HEAD:refs/heads/trunk agent=x\n");
        let second = format!("{id} refs/heads/trunk\n");
        let found = advertise(&[&first, &second]).unwrap();
        assert_eq!(found.head.as_deref(), Some("refs/heads/trunk"));
        assert_eq!(found.refs["refs/heads/trunk"], id);
        let none = format!("{} capabilities^{{}}\0symref=HEAD:refs/heads/main\n", "0".repeat(40));
        assert!(advertise(&[&none]).unwrap().refs.is_empty());
        assert!(advertise(&["<html>"]).is_err());
    }

    #[test]
    fn a_server_is_asked_for_no_more_than_it_can_do() {
        let asked = |abilities: &str, depth, commits_only| {
            let mut advertised = Advertised::default();
            advertised.take(format!("{} refs/heads/main\0{abilities}\n", "1".repeat(40)).as_bytes()).unwrap();
            let held = Held { tips: vec!["2222".into()], shallow: vec!["3333".into()] };
            advertised.request(&Ask { want: "1111".into(), held, depth, commits_only })
        };
        let agent = concat!("agent=ofop/", env!("CARGO_PKG_VERSION"), "\n");
        let want =
            |abilities: &str| packet(&format!("want 1111 side-band-64k ofs-delta no-progress{abilities} {agent}"));
        let newest = asked("shallow filter", Some(Depth::ONE), false);
        let rest = "0011shallow 3333\n000ddeepen 1\n0000000ehave 2222\n0009done\n";
        assert_eq!(newest, format!("{}{rest}", want(" shallow")));
        let history = asked("shallow filter", None, true);
        assert!(history.contains("filter tree:0\n") && !history.contains("deepen"), "{history}");
        let old = asked("ofs-delta", Some(Depth::ONE), true);
        assert_eq!(old, format!("{}00000009done\n", want("")), "nothing is had that may lack its history");
    }

    #[test]
    fn packets_are_cut_wherever_the_stream_is() {
        let stream = b"0009hello00000006ab";
        for size in 1..stream.len() {
            let mut packets = Packets::default();
            let mut found = Vec::new();
            for chunk in stream.chunks(size) {
                packets.push(chunk);
                while let Some(packet) = packets.next().unwrap() {
                    found.push(match packet {
                        Packet::Data(data) => String::from_utf8(data).unwrap(),
                        Packet::Flush => "-".into(),
                    });
                }
            }
            assert_eq!(found, ["hello", "-", "ab"], "in pieces of {size}");
        }
        let mut packets = Packets::default();
        packets.push(b"<!doctype html>");
        assert!(packets.next().is_err());
    }
}
