//! Labels that tell Traefik how to reach an app or an agent.

use std::collections::BTreeMap;

use crate::desired::manifest::Routing;
use crate::model::names::normal_name;
use crate::model::{ServiceName, Settings};

/// Routing labels of an app; none unless it is exposed.
pub(super) fn app(routing: &Routing, service: &ServiceName, settings: &Settings) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(port) = routing.port.filter(|_| routing.expose) else { return labels };
    let name = service.normal();
    let mut rule = host(&name, settings);
    let alias = routing.hostname.as_deref().map(normal_name).unwrap_or_default();
    if !alias.is_empty() && alias != name {
        rule = format!("{rule} || {}", host(&alias, settings));
    }
    let mut set = |key: String, value: String| labels.insert(key, value);
    let router = format!("traefik.http.routers.ofa-{name}");
    set("traefik.enable".into(), "true".into());
    set(format!("{router}.service"), format!("ofa-{name}"));
    set(format!("{router}.rule"), rule);
    set(format!("{router}.entrypoints"), "web".into());
    set(format!("traefik.http.services.ofa-{name}.loadbalancer.server.port"), port.to_string());
    if settings.dev {
        let middleware = format!("traefik.http.middlewares.ofa-{name}");
        set(format!("{router}-external.rule"), format!("Host(`localhost`) && PathPrefix(`/{name}`)"));
        set(format!("{router}-external.entrypoints"), "web".into());
        set(format!("{router}-external.service"), format!("ofa-{name}"));
        set(format!("{router}-external.middlewares"), format!("ofa-{name}-slash,ofa-{name}-strip"));
        set(format!("{middleware}-strip.stripprefix.prefixes"), format!("/{name}"));
        set(format!("{middleware}-slash.redirectregex.regex"), format!(r"^(/{name})(\?.*)?$"));
        set(format!("{middleware}-slash.redirectregex.replacement"), "${1}/${2}".into());
    }
    labels
}

/// Routing labels of an MTConnect agent: its router and service bear the service's own name.
pub(super) fn agent(service: &ServiceName, device: &str, port: u16, settings: &Settings) -> BTreeMap<String, String> {
    let host = host(&format!("{device}.agent"), settings);
    BTreeMap::from([
        ("traefik.enable".to_owned(), "true".to_owned()),
        (format!("traefik.http.routers.{service}.rule"), host),
        (format!("traefik.http.routers.{service}.entrypoints"), "web".to_owned()),
        (format!("traefik.http.services.{service}.loadbalancer.server.port"), port.to_string()),
    ])
}

/// ``Host(`name.DOMAIN`)``; without a base domain the bare name.
fn host(name: &str, settings: &Settings) -> String {
    if settings.base_domain.is_empty() {
        format!("Host(`{name}`)")
    } else {
        format!("Host(`{name}.{}`)", settings.base_domain)
    }
}
