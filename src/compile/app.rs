//! Applications.

use std::sync::Arc;

use super::claims::Claim;
use super::environment::{self, UuidPosition};
use super::file::{Context, Entry};
use super::hash::hash_and_size;
use super::{MAX_ENV_BYTES, MAX_SPEC_BYTES, routing, template};
use crate::desired::manifest::{App, Deploy, Place, PullPolicy};
use crate::model::record::AssetRecord;
use crate::model::service::{Resources, Ulimit};
use crate::model::{
    AssetUuid, DesiredResource, DesiredService, Handling, InvalidName, Origin, PlatformKind, Record, ResourceId,
    ServiceName, ServiceSpec,
};

/// Variables that OpenFactory sets itself on every app.
const RESERVED: [&str; 5] = ["APP_UUID", "KAFKA_BROKER", "KSQLDB_URL", "ASSET_ROUTER_URL", "DOCKER_SERVICE"];

/// Compiles an app; none after an error, which the context then holds.
pub(super) fn compile(app: &App, context: &mut Context<'_>) -> Option<Entry> {
    let path = format!("apps.{}", app.name);
    warn(app, &path, context);
    let parts = match parts(app, context) {
        Ok(parts) => parts,
        Err(error) => {
            let message = format!("{error}");
            context.error(app.place, format!("{path}.uuid"), message, "the uuid becomes the name of a service");
            return None;
        }
    };
    finish(ResourceId::app(app.uuid.clone()), parts, app.place, path, context)
}

/// What an entry compiles to before its size is checked.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) services: Vec<(ServiceSpec, PullPolicy)>,
    pub(super) records: Vec<Record>,
    pub(super) handling: Handling,
}

fn parts(app: &App, context: &Context<'_>) -> Result<Parts, InvalidName> {
    let settings = context.settings;
    let name = ServiceName::new(app.uuid.as_str())?;
    let replicas = app.deploy.replicas;
    let mut parts = Parts { handling: app.handling.clone(), ..Parts::default() };
    // One asset per replica; a single one bears the app's own uuid.
    let assets: Vec<AssetUuid> = if replicas == 1 {
        vec![app.uuid.clone()]
    } else {
        (1..=replicas).map(|slot| AssetUuid::new(format!("{}-{slot}", app.uuid))).collect::<Result<_, _>>()?
    };
    let mut embodied_by = Vec::with_capacity(assets.len());
    match settings.platform {
        PlatformKind::Swarm => {
            let mut spec = base(app, name.clone(), &name, settings);
            spec.env = environment::app(app, app.uuid.as_str(), UuidPosition::First, &name, settings);
            spec.env.extend(environment::swarm(replicas));
            spec.reservations = app.deploy.reservations.without_zeros();
            spec.constraints.clone_from(&app.deploy.constraints);
            spec.replicas = replicas;
            parts.services.push((spec, app.pull));
            embodied_by.resize(assets.len(), name);
        }
        PlatformKind::Docker => {
            let position = if replicas == 1 { UuidPosition::First } else { UuidPosition::Last };
            for uuid in &assets {
                let container = ServiceName::new(uuid.as_str())?;
                let mut spec = base(app, container.clone(), &name, settings);
                spec.env = environment::app(app, uuid.as_str(), position, &name, settings);
                // Of the resources only these two reach a container (OpenFactory 0.6.6).
                spec.limits.memory_bytes = None;
                parts.services.push((spec, app.pull));
                embodied_by.push(container);
            }
        }
    }
    for (uuid, service) in assets.iter().zip(&embodied_by) {
        parts.records.push(Record::Asset(AssetRecord {
            uuid: uuid.clone(),
            asset_type: "OpenFactoryApp".into(),
            docker_service: service.to_string(),
            references_above: Vec::new(),
            references_below: Vec::new(),
            uns: app.uns.clone(),
            attributes: Vec::new(),
        }));
    }
    if let (PlatformKind::Docker, Some(metrics)) = (settings.platform, &app.metrics) {
        for (uuid, container) in assets.into_iter().zip(embodied_by) {
            parts.records.push(Record::MetricsTarget {
                asset: uuid,
                host: container.to_string(),
                port: metrics.port,
                path: metrics.path.clone(),
            });
        }
    }
    Ok(parts)
}

/// What all platforms and replicas share.
fn base(app: &App, name: ServiceName, service: &ServiceName, settings: &crate::model::Settings) -> ServiceSpec {
    let mut spec = ServiceSpec::new(name, app.image.clone());
    spec.user = app.user.map(|(uid, gid)| format!("{uid}:{gid}"));
    spec.labels = app.routing.as_ref().map(|given| routing::app(given, service, settings)).unwrap_or_default();
    spec.mounts = app.storage.iter().flatten().map(|storage| storage.mount.clone()).collect();
    spec.ulimits = ulimits(&app.deploy);
    spec.limits = app.deploy.limits.without_zeros();
    spec.networks.clone_from(&app.networks);
    spec.options.clone_from(&app.options);
    spec
}

/// `open_files` as a ulimit, soft and hard alike.
pub(super) fn ulimits(deploy: &Deploy) -> Vec<Ulimit> {
    let nofile = |limit| Ulimit { name: "nofile".into(), soft: limit, hard: limit };
    deploy.open_files.map(nofile).into_iter().collect()
}

/// What is taken but has no effect, or not the one that was probably meant.
fn warn(app: &App, path: &str, context: &mut Context<'_>) {
    for variable in app.environment.iter().filter(|variable| RESERVED.contains(&variable.name.as_str())) {
        let message =
            format!("`{}` is also set by OpenFactory, and many programs read the first of two", variable.name);
        let hint = "leave it out, or set the operator's own setting of that name";
        context.warning(app.place, format!("{path}.environment"), message, hint);
    }
    if app.routing.as_ref().is_some_and(|routing| routing.expose) && context.settings.base_domain.is_empty() {
        let hint = "set OPENFACTORY_BASE_DOMAIN to the domain that the router serves";
        let message = "exposed without a base domain: the router will know it by its bare name";
        context.warning(app.place, format!("{path}.routing"), message, hint);
    }
    if context.settings.platform == PlatformKind::Docker {
        warn_docker(&app.deploy, app.place, &format!("{path}.deploy"), context);
    }
}

/// Fields of `deploy` that plain Docker has no use for.
pub(super) fn warn_docker(deploy: &Deploy, place: Place, path: &str, context: &mut Context<'_>) {
    let without_effect = [
        (!deploy.constraints.is_empty(), "placement.constraints"),
        (deploy.reservations.without_zeros() != Resources::default(), "resources.reservations"),
        (deploy.limits.memory_bytes.is_some(), "resources.limits.memory"),
    ];
    for (given, field) in without_effect {
        if given {
            let message = "has no effect on the docker platform, as with OpenFactory's own command line";
            context.warning(place, format!("{path}.{field}"), message, "it takes effect on Swarm");
        }
    }
}

/// Checks sizes, hashes, and lists the names that nobody else may have.
pub(super) fn finish(
    id: ResourceId,
    parts: Parts,
    place: Place,
    path: String,
    context: &mut Context<'_>,
) -> Option<Entry> {
    let mut services = Vec::with_capacity(parts.services.len());
    let mut valid = true;
    for (spec, pull) in parts.services {
        let (hash, size) = hash_and_size(&spec);
        valid &= fits(&spec, size, place, &path, context);
        valid &= template::fits(&spec, place, &path, context);
        let spec = Arc::new(spec);
        services.push(DesiredService { spec, hash, follow_digest: pull == PullPolicy::Always });
    }
    if !valid {
        return None;
    }
    let mut claims: Vec<Claim> = services.iter().map(|service| Claim::Service(service.spec.name.clone())).collect();
    claims.push(Claim::asset(id.uuid.as_str()));
    claims.extend(parts.records.iter().map(|record| Claim::asset(record.id().asset().as_str())));
    claims.sort();
    claims.dedup();
    let origin = Origin { file: Arc::clone(context.file), line: place.line };
    let records = parts.records.into_iter().map(Arc::new).collect();
    let resource = Arc::new(DesiredResource { id, origin, services, records, handling: parts.handling, frozen: false });
    Some(Entry { resource, claims, place, path })
}

/// Whether the engine and the kernel can take a spec of this size.
fn fits(spec: &ServiceSpec, size: usize, place: Place, path: &str, context: &mut Context<'_>) -> bool {
    let mut fits = true;
    for variable in &spec.env {
        let field = if variable.name == "STORAGE" { "storage" } else { "environment" };
        let field = format!("{path}.{field}");
        if variable.name.contains('\0') || variable.value.contains('\0') {
            let message = format!("environment of service `{}` holds a NUL character, which ends a text", spec.name);
            context.error(place, field, message, "take it out; binary values can be written in base64");
            fits = false;
            continue;
        }
        let bytes = variable.name.len() + 1 + variable.value.len() + 1;
        if bytes > MAX_ENV_BYTES {
            let message = format!(
                "environment variable `{}` of service `{}` would take {bytes} bytes; Linux hands at most {MAX_ENV_BYTES} to a program",
                variable.name, spec.name
            );
            context.error(place, field, message, "put large values into a file and mount it");
            fits = false;
        }
    }
    if fits && size > MAX_SPEC_BYTES {
        let message = format!(
            "service `{}` would take {size} bytes; at most {MAX_SPEC_BYTES} can be updated safely on Swarm",
            spec.name
        );
        context.error(place, path.to_owned(), message, "put large values into a file and mount it");
        fits = false;
    }
    fits
}
