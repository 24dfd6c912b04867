//! A plan from two values, what is wanted and what is there: without a server, a file or a clock.
//!
//! `cargo run --example plan`

use std::error::Error;
use std::sync::Arc;

use ofop::compile::spec_hash;
use ofop::model::{
    AssetUuid, Desired, DesiredResource, DesiredService, Handling, InstanceName, Observed, Origin, PlatformSnapshot,
    RegistrySnapshot, ResourceId, ServiceName, ServiceSpec,
};
use ofop::plan::{Memory, Policy, TextOptions, plan, to_text};

fn main() -> Result<(), Box<dyn Error>> {
    print!("{}", text()?);
    Ok(())
}

/// What `ofop plan` would print of a service that is wanted on a cluster where nothing is.
pub(crate) fn text() -> Result<String, Box<dyn Error>> {
    let spec = ServiceSpec::new(ServiceName::new("press-7")?, "registry.plant.example/press:1.4");
    let press = DesiredResource {
        id: ResourceId::app(AssetUuid::new("PRESS-7")?),
        origin: Origin { file: "app_press.yml".into(), line: 2 },
        services: vec![DesiredService { hash: spec_hash(&spec), spec: Arc::new(spec), follow_digest: false }],
        records: Vec::new(),
        handling: Handling::default(),
        frozen: false,
    };
    let desired = Desired {
        resources: [(press.id.clone(), Arc::new(press))].into_iter().collect(),
        complete: true,
        ..Desired::default()
    };
    let observed = Observed {
        platform: Some(Arc::new(PlatformSnapshot { complete: true, ..PlatformSnapshot::default() })),
        registry: Some(Arc::new(RegistrySnapshot { complete: true, ..RegistrySnapshot::default() })),
        ..Observed::default()
    };
    let plan = plan(&desired, &observed, &Policy::new(InstanceName::new("default")?), &Memory::default());
    Ok(to_text(&plan, TextOptions::default()))
}
