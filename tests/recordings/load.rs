//! A recorded case, read by the product's own settings, parser and compiler.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ofop::compile::Compiler;
use ofop::config::{Config, Flags, Variables};
use ofop::desired::manifest::{Agent, Connector};
use ofop::desired::namespace::Schema;
use ofop::desired::{Namespace, ParseContext, ParsedTree, parse};
use ofop::model::{Desired, Settings};

/// What a file of the case means, the case's folder being the working directory.
pub(crate) fn load(folder: &Path, file: &str, env: BTreeMap<String, String>) -> (Settings, Arc<Desired>) {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let variables = Variables::load(env.clone(), None).unwrap();
    let settings = Config::load(&Flags::default(), variables).unwrap().settings;
    let schema = settings.uns_schema.as_deref().unwrap();
    let namespace = Schema::parse(&schema.into(), &text(schema)).unwrap();
    let context = ParseContext {
        variables: Arc::new(env),
        namespace: Namespace::Schema(Arc::new(namespace)),
        ..ParseContext::new(settings.platform)
    };
    let parsed = parse(&file.into(), &text(file), [0; 32], &context);
    let mut tree = ParsedTree::default();
    for device in parsed.manifest.iter().flat_map(|manifest| &manifest.devices) {
        let Connector::Mtconnect(connector) = &device.connector else { continue };
        let Agent::Ours { device_xml, .. } = &connector.agent else { continue };
        let content =
            std::fs::read_to_string(folder.join(device_xml)).map(Arc::from).map_err(|error| error.to_string());
        tree.attachments.insert((file.to_owned(), device_xml.clone()), content);
    }
    tree.files.push(parsed);
    let desired = Compiler::new(settings.clone()).compile(&tree);
    (settings, desired)
}
