//! Any text: the parser neither panics nor hangs, and gives a meaning or errors, never both and never neither.

#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use ofop::desired::namespace::Schema;
use ofop::desired::{Namespace, ParseContext, parse};
use ofop::model::{PlatformKind, Severity};

const SCHEMA: &str = "{namespace_structure: [{inc: Acme}, {site: [north, south]}, {line: ANY}, {asset: ANY}, {attribute: ANY}], \
                      uns_template: inc/site/line/asset/attribute}";

static CONTEXTS: LazyLock<[ParseContext; 2]> = LazyLock::new(|| {
    let variables = [("V", "a: [b"), ("N", "1\n2"), ("P", "8080"), ("Q", "'q' #")];
    let mut swarm = ParseContext::new(PlatformKind::Swarm);
    swarm.variables = Arc::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    let mut docker = swarm.clone();
    docker.platform = PlatformKind::Docker;
    docker.namespace = match Schema::parse(&"uns.yml".into(), SCHEMA) {
        Ok(schema) => Namespace::Schema(Arc::new(schema)),
        Err(_) => Namespace::Invalid,
    };
    [swarm, docker]
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path: Arc<str> = "fuzz.yml".into();
    for context in &*CONTEXTS {
        let parsed = parse(&path, text, [0; 32], context);
        let errors = parsed.problems.iter().any(|problem| problem.severity == Severity::Error);
        assert_eq!(parsed.manifest.is_none(), errors);
        let lines = text.split(['\n', '\r']).count();
        assert!(parsed.problems.iter().all(|problem| problem.line as usize <= lines));
    }
    let _ = Schema::parse(&path, text);
});
