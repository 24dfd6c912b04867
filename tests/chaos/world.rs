//! What is described and what is there: the manifests that a test edits, the hands that interfere, and the check that
//! everything is as described, nothing twice, and nothing of anybody else's touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ofop::testing::Rng;
use serde_json::{Value, json};

use crate::engine::{IDLE, IDLE_2};

/// A constraint that no node meets: services without containers.
const NOWHERE: &str = "node.labels.none == x";

const LABEL: &str = "io.openfactory.operator/";

/// What a manifest says of an app.
#[derive(Debug, Clone)]
struct App {
    image: &'static str,
    mode: u64,
    replicas: u64,
}

/// An engine, or a manager of several, as a person would use it.
pub trait Hand {
    /// One call; status and answer. None when nobody answers.
    fn call(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)>;
}

/// The manifests of a test.
pub struct Manifests {
    rng: Rng,
    apps: BTreeMap<String, App>,
    next: usize,
    gone: Vec<String>,
    /// Names whose service may rightly be another one since the last check.
    touched: BTreeSet<String>,
    /// The id of each service at the last check.
    ids: BTreeMap<String, String>,
    strangers: BTreeMap<String, Value>,
    /// What was done so far.
    pub done: BTreeMap<&'static str, usize>,
}

impl Manifests {
    pub fn new(seed: u64) -> Manifests {
        Manifests {
            rng: Rng::new(seed),
            apps: BTreeMap::new(),
            next: 0,
            gone: Vec::new(),
            touched: BTreeSet::new(),
            ids: BTreeMap::new(),
            strangers: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// How many operations were done.
    pub fn operations(&self) -> usize {
        self.done.values().sum()
    }

    /// How many apps are described.
    pub fn described(&self) -> usize {
        self.apps.len()
    }

    /// Adds an app; its name.
    pub fn add(&mut self, folders: &[&Path]) -> String {
        self.next += 1;
        let name = format!("app-{}", self.next);
        let app = App { image: IDLE, mode: self.rng.below(9), replicas: 1 + self.rng.below(2) };
        self.apps.insert(name.clone(), app);
        self.write(&name, folders);
        name
    }

    /// Writes an app's manifest as an editor does.
    pub fn write(&self, name: &str, folders: &[&Path]) {
        let app = &self.apps[name];
        let text = format!(
            "apps:\n  {name}:\n    uuid: {}\n    image: {}\n    environment: [MODE={}]\n    networks: [factory-net]\n    \
             deploy: {{replicas: {}, placement: {{constraints: ['{NOWHERE}']}}}}\n",
            name.to_uppercase(),
            app.image,
            app.mode,
            app.replicas
        );
        for folder in folders {
            let hidden = folder.join(format!(".{name}.new"));
            std::fs::write(&hidden, &text).unwrap();
            std::fs::rename(hidden, folder.join(format!("app_{name}.yml"))).unwrap();
        }
    }

    fn some(&mut self) -> String {
        let names: Vec<String> = self.apps.keys().cloned().collect();
        self.rng.pick(&names).expect("there are apps").clone()
    }

    fn edit(&mut self, folders: &[&Path]) {
        let name = self.some();
        let what = self.rng.below(3);
        let app = self.apps.get_mut(&name).unwrap();
        match what {
            0 => app.image = if app.image == IDLE { IDLE_2 } else { IDLE },
            1 => app.replicas = 1 + app.replicas % 3,
            _ => {}
        }
        app.mode += 1;
        self.write(&name, folders);
    }

    /// One operation, drawn: an edit of the manifests in all `folders`, or a hand that interferes.
    pub fn act(&mut self, folders: &[&Path], hand: &impl Hand) {
        let (what, act): (&'static str, Act) = match self.rng.below(100) {
            0..50 => ("manifest edited", |world, folders, _| world.edit(folders)),
            50..62 => ("manifest added", |world, folders, _| _ = world.add(folders)),
            62..74 => ("manifest removed", |world, folders, _| {
                if world.apps.len() > 20 {
                    let name = world.some();
                    world.apps.remove(&name);
                    for folder in folders {
                        std::fs::remove_file(folder.join(format!("app_{name}.yml"))).unwrap();
                    }
                    world.touched.insert(name.clone());
                    world.gone.push(name);
                }
            }),
            74..80 => ("manifest back", |world, folders, _| {
                if let Some(name) = world.gone.pop() {
                    world.apps.insert(name.clone(), App { image: IDLE, mode: world.rng.below(9), replicas: 1 });
                    world.write(&name, folders);
                }
            }),
            80..88 => ("service removed by hand", |world, _, call| {
                let name = world.some();
                if let Some(service) = find(call, &name) {
                    world.touched.insert(name);
                    call("DELETE", &format!("/services/{}", service["ID"].as_str().unwrap_or_default()), "");
                }
            }),
            88..96 => ("service edited by hand", |world, _, call| {
                let name = world.some();
                edit_by_hand(call, &name, |spec| {
                    spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["MODE=sabotage"]);
                });
            }),
            _ => ("service scaled by hand", |world, _, call| {
                let name = world.some();
                edit_by_hand(call, &name, |spec| spec["Mode"]["Replicated"]["Replicas"] = 7.into());
            }),
        };
        act(self, folders, &|method, path, body| hand.call(method, path, body));
        *self.done.entry(what).or_default() += 1;
    }

    /// Services of other people, with and without labels of theirs.
    pub fn make_strangers(&mut self, hand: &impl Hand) {
        for number in 1..=5 {
            let name = format!("stranger-{number}");
            let body = json!({"Name": name, "Labels": {"team": "blue"}, "TaskTemplate": {
                "ContainerSpec": {"Image": IDLE}, "Placement": {"Constraints": ["node.labels.none==x"]}}});
            let (status, answer) = hand.call("POST", "/services/create", &body.to_string()).unwrap();
            assert_eq!(status, 201, "{answer}");
            let service = find(&|method, path, body| hand.call(method, path, body), &name).unwrap();
            self.strangers.insert(name, service);
        }
    }

    /// What is not as it should be right now; empty when all is well. Whoever finds it empty calls [`Manifests::settled`].
    pub fn wrong(&self, hand: &impl Hand) -> Vec<String> {
        let Some((200, text)) = hand.call("GET", "/services", "") else { return vec!["no list".into()] };
        let services: Vec<Value> = serde_json::from_str(&text).unwrap();
        let mut wrong = Vec::new();
        let mut of_resource: BTreeMap<String, usize> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for service in &services {
            let name = service["Spec"]["Name"].as_str().unwrap_or_default().to_owned();
            if let Some(resource) = service["Spec"]["Labels"][format!("{LABEL}resource")].as_str() {
                *of_resource.entry(resource.to_owned()).or_default() += 1;
                if !self.apps.contains_key(&name) {
                    wrong.push(format!("{name} is left over"));
                }
            } else if !self.strangers.contains_key(&name) {
                wrong.push(format!("{name} has no mark"));
            }
            found.insert(name, service);
        }
        wrong.extend(
            of_resource
                .iter()
                .filter(|(_, count)| **count > 1)
                .map(|(it, count)| format!("{it} is there {count} times")),
        );
        for (name, app) in &self.apps {
            let Some(service) = found.get(name) else {
                wrong.push(format!("{name} is missing"));
                continue;
            };
            let spec = &service["Spec"];
            let container = &spec["TaskTemplate"]["ContainerSpec"];
            let env = container["Env"].as_array().cloned().unwrap_or_default();
            let mode = json!(format!("MODE={}", app.mode));
            let image =
                container["Image"].as_str().unwrap_or_default().split('@').next().unwrap_or_default().to_owned();
            if image != app.image || !env.contains(&mode) || spec["Mode"]["Replicated"]["Replicas"] != app.replicas {
                wrong.push(format!("{name} is not as described: {image} {env:?} {}", spec["Mode"]));
            }
        }
        for (name, before) in &self.strangers {
            let now = found.get(name);
            if now.is_none_or(|now| now["ID"] != before["ID"] || now["Spec"] != before["Spec"]) {
                wrong.push(format!("{name} was touched: {now:?}"));
            }
        }
        wrong
    }

    /// All is well: each service that nobody had a reason to make anew must be the one of the last time.
    pub fn settled(&mut self, hand: &impl Hand) -> Vec<String> {
        let (_, text) = hand.call("GET", "/services", "").unwrap();
        let services: Vec<Value> = serde_json::from_str(&text).unwrap();
        let now: BTreeMap<String, String> = services
            .iter()
            .map(|it| (it["Spec"]["Name"].as_str().unwrap().to_owned(), it["ID"].as_str().unwrap().to_owned()))
            .collect();
        let kept = |(name, id): &(&String, &String)| now.get(*name).is_none_or(|now| now == *id);
        let wrong = self.ids.iter().filter(|it| !self.touched.contains(it.0) && !kept(it));
        let wrong = wrong.map(|(name, _)| format!("{name} was removed and made anew without a reason")).collect();
        self.ids = now;
        self.touched.clear();
        wrong
    }
}

type Call<'a> = &'a dyn Fn(&str, &str, &str) -> Option<(u16, String)>;
/// One operation on the manifests in these folders, or on the engine.
type Act = fn(&mut Manifests, &[&Path], Call<'_>);

/// The service of this name; none when there is none or nobody answers.
fn find(call: Call<'_>, name: &str) -> Option<Value> {
    let (status, text) = call("GET", &format!("/services/{name}"), "")?;
    let service: Value = serde_json::from_str(&text).ok()?;
    (status == 200 && service["Spec"]["Name"] == name).then_some(service)
}

/// An edit as a person makes it: once, whether it works or not.
fn edit_by_hand(call: Call<'_>, name: &str, edit: impl Fn(&mut Value)) {
    if let Some(mut service) = find(call, name) {
        edit(&mut service["Spec"]);
        let id = service["ID"].as_str().unwrap_or_default();
        let path = format!("/services/{id}/update?version={}", service["Version"]["Index"]);
        call("POST", &path, &service["Spec"].to_string());
    }
}
