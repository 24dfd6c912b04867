//! Only what manifests may reach is connected to: the addresses that a name was resolved to are looked at when they are
//! used, and those of a URL before.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::model::HostRules;

/// The port of `https://` where a URL names none.
const HTTPS: u16 = 443;

/// What a name stands for at the moment.
type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// A resolver that answers with permitted addresses alone. It knows the port that is connected to: there is one for each.
#[derive(Clone)]
pub(super) struct Filter {
    rules: Arc<HostRules>,
    port: u16,
    /// Names of the operator's own proxies: they are connected to for whatever a manifest names, and look for it themselves.
    proxies: Arc<BTreeSet<String>>,
    lookup: Lookup,
}

impl Filter {
    /// For connections to this port.
    pub(super) fn new(rules: Arc<HostRules>, port: u16) -> Self {
        let lookup: Lookup = Arc::new(|name| {
            let found = async move { tokio::net::lookup_host((name, 0)).await };
            found.map(|found| found.map(|addresses| addresses.map(|address| address.ip()).collect())).boxed()
        });
        Filter { rules, port, proxies: Arc::new(proxies(|name| std::env::var(name).ok())), lookup }
    }
}

impl Resolve for Filter {
    fn resolve(&self, name: Name) -> Resolving {
        let filter = self.clone();
        async move {
            let name = name.as_str();
            let found = (filter.lookup)(name.to_owned()).await?;
            let any = filter.proxies.contains(&name.to_ascii_lowercase());
            let mut permitted =
                found.into_iter().filter(|to| any || filter.rules.may_reach(name, *to, filter.port)).peekable();
            if permitted.peek().is_none() {
                return Err("no address of it may be reached".into());
            }
            Ok(Box::new(permitted.map(|to| SocketAddr::new(to, 0)).collect::<Vec<_>>().into_iter()) as Addrs)
        }
        .boxed()
    }
}

/// The port that a URL leads to; none when it leads to an address that may not be reached.
pub(super) fn permitted_port(rules: &HostRules, url: &Url) -> Option<u16> {
    let port = url.port_or_known_default().unwrap_or(HTTPS);
    let host = url.host_str()?;
    // Whatever way it is written, the URL has an address in its usual form.
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    literal.map_or(true, |address| rules.may_reach(host, address, port)).then_some(port)
}

/// The rules, and what the operator's own settings name.
pub(super) fn with_settings<'a>(rules: &HostRules, settings: impl Iterator<Item = &'a str>) -> HostRules {
    settings.filter_map(|url| Url::parse(url).ok()).fold(rules.clone(), |rules, url| match url.host_str() {
        Some(host) => rules.with(host, url.port_or_known_default().unwrap_or(HTTPS)),
        None => rules,
    })
}

/// The hosts of proxies for TLS, from the variables that clients honour.
fn proxies(variable: impl Fn(&str) -> Option<String>) -> BTreeSet<String> {
    let named = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().filter_map(variable);
    let host = |text: String| {
        let url = if text.contains("://") { Url::parse(&text) } else { Url::parse(&format!("http://{text}")) };
        url.ok()?.host_str().map(str::to_ascii_lowercase)
    };
    named.filter_map(host).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A resolver over a name server that gives one answer after the other.
    fn filter(rules: &str, port: u16, answers: &[&[&str]]) -> Filter {
        let parsed = answers.iter().map(|answer| answer.iter().map(|text| text.parse().unwrap()).collect());
        let answers: Mutex<Vec<Vec<IpAddr>>> = Mutex::new(parsed.rev().collect());
        let lookup: Lookup = Arc::new(move |_| {
            let answer = answers.lock().unwrap().pop().ok_or_else(|| io::Error::other("no such name"));
            async move { answer }.boxed()
        });
        let rules = Arc::new(HostRules::parse(rules).unwrap());
        Filter { rules, port, proxies: Arc::default(), lookup }
    }

    async fn resolve(filter: &Filter, name: &str) -> Option<Vec<String>> {
        let found = filter.resolve(name.parse().unwrap()).await;
        found.ok().map(|addresses| addresses.map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn a_name_that_changes_its_mind_is_judged_at_each_connection() {
        let filter =
            filter("", 443, &[&["1.1.1.1"], &["127.0.0.1"], &["10.0.0.1", "::1", "1.1.1.1"], &["fe80::1"], &[]]);
        let wanted = [Some(vec!["1.1.1.1".to_owned()]), None, Some(vec!["1.1.1.1".to_owned()]), None, None, None];
        for wanted in wanted {
            assert_eq!(resolve(&filter, "rebind.example").await, wanted);
        }
    }

    #[tokio::test]
    async fn the_port_that_is_connected_to_counts() {
        let inside: &[&str] = &["10.0.0.7"];
        for (rules, port, fine) in [
            ("nas.plant", 443, true),
            ("nas.plant:8443", 443, false),
            ("nas.plant:8443", 8443, true),
            ("10.0.0.0/8:8443", 8443, true),
            ("10.0.0.0/8:8443", 443, false),
            ("other.plant", 443, false),
        ] {
            assert_eq!(resolve(&filter(rules, port, &[inside]), "nas.plant").await.is_some(), fine, "{rules} {port}");
        }
        let mut proxied = filter("", 443, &[inside, inside]);
        proxied.proxies = Arc::new(proxies(|name| (name == "HTTPS_PROXY").then(|| "me:pw@Proxy.plant:3128".into())));
        assert!(resolve(&proxied, "proxy.plant").await.is_some(), "the operator's own proxy");
        assert_eq!(resolve(&proxied, "nas.plant").await, None);
    }

    #[test]
    fn an_address_in_a_url_is_judged_however_it_is_written() {
        let rules = HostRules::parse("10.0.0.7:8443").unwrap();
        for (url, port) in [
            ("https://127.0.0.1/x", None),
            ("https://2130706433/x", None),
            ("https://0x7f.1/x", None),
            ("https://017700000001/x", None),
            ("https://127.1:9/x", None),
            ("https://[::1]/x", None),
            ("https://[::ffff:127.0.0.1]/x", None),
            ("https://[64:ff9b::a00:1]/x", None),
            ("https://[2002:7f00:1::]/x", None),
            ("https://169.254.169.254/latest", None),
            ("https://10.0.0.7/x", None),
            ("https://10.0.0.7:8443/x", Some(8443)),
            ("https://1.1.1.1/x", Some(443)),
            ("https://[2606:4700::1111]:8443/x", Some(8443)),
            // Names are judged once they are resolved.
            ("https://localhost/x", Some(443)),
        ] {
            assert_eq!(permitted_port(&rules, &Url::parse(url).unwrap()), port, "{url}");
        }
    }
}
