//! The words of the operator, as values.
//!
//! Nothing here does I/O, knows a clock or can block: these are the types that every other module passes
//! to its neighbour. A value that exists is valid — names are newtypes whose only constructors check them,
//! so that code behind them needs no `Result`.
//!
//! | file | words |
//! |---|---|
//! | [`names`] | asset uuid, service name, resource, instance, revision |
//! | [`nearest`] | which name somebody meant who wrote another one |
//! | [`service`] | the fields of a Swarm service (or container) that we own |
//! | [`record`] | facts in the asset registry |
//! | [`desired`] | what the manifests mean, and the problems found in them |
//! | [`duration`] | how times are written |
//! | [`ledger`] | both sides matched by name, kept from plan to plan |
//! | [`lease`] | who may change the cluster |
//! | [`fields`] | every field of a service that we own, declared once |
//! | [`options`] | what a manifest may set of a service beyond OpenFactory's own keys |
//! | [`handling`] | how a resource is taken care of: suspended, kept, fields left alone |
//! | [`hold`] | what a person holds back, until when and why |
//! | [`notes`] | what the operator writes down |
//! | [`observed`] | what really runs and is really registered |
//! | [`evidence`] | how far a reading of the registry may be relied on |
//! | [`verdict`] | settled, in progress, or blocked until somebody acts |
//! | [`step`] | one action as data, with its reason |
//! | [`status`] | sync, health, drift, conditions |
//! | [`outcome`] | what became of a step |
//! | [`plan`] | what a pass decided |
//! | [`rollout`] | how changes of manifests go out, and what stops them |
//! | [`run`] | which run of which operator process |
//! | [`plan_json`] | the same as JSON, for programs |
//! | [`command`] | what a person asks of a running operator, and who asks |
//! | [`image`] | references to images |
//! | [`source`] | where manifests come from, and what can be wrong with that |
//! | [`shared`] | maps that share what they have in common |
//! | [`settings`] | OpenFactory's settings that shape services |
//! | [`text`] | texts for people: causes of errors, lengths, HTML |
//! | [`windows`] | when changes from manifests may go out |

pub mod command;
pub mod desired;
pub mod duration;
pub mod evidence;
pub mod fields;
pub mod handling;
pub mod hidden;
pub mod hold;
pub mod hosts;
pub mod image;
pub mod lease;
pub mod ledger;
pub mod names;
pub mod nearest;
pub mod notes;
pub mod observed;
pub mod options;
pub mod outcome;
pub mod plan;
pub mod plan_json;
pub mod record;
pub mod rollout;
pub mod run;
pub mod service;
pub mod settings;
pub mod shared;
pub mod source;
pub mod status;
pub mod step;
pub mod text;
pub mod verdict;
pub mod windows;

pub use command::{Actor, Command, CommandVerb, NOBODY, Request, Role};
pub use desired::{Desired, DesiredResource, DesiredService, Origin, OtherFile, Problem, Severity};
pub use duration::parse_duration;
pub use evidence::{Doubt, DoubtReason, Evidence, Proof};
pub use fields::{Field, FieldSet, OwnedField};
pub use handling::{Handling, IgnoredField};
pub use hidden::HiddenValues;
pub use hold::{Hold, HoldStatus, Term};
pub use hosts::{HostRules, InvalidHostRule};
pub use image::{ImageRef, InvalidImage};
pub use lease::{LeaseFound, LeaseRecord, LeaseSeen, LeaseStatus, LeaseUnread, Standing};
pub use ledger::{Examined, Ledger, SharedSet};
pub use names::{AssetUuid, InstanceName, InvalidName, Kind, ResourceId, Revision, ServiceName};
pub use notes::{Note, NoteEdits, Notes, NotesView};
pub use observed::{
    Observed, ObservedRecord, ObservedService, PlatformSnapshot, RegistrySnapshot, Rollout, ServiceId, TaskState,
    TaskView, UpdateState,
};
pub use options::{FailureAction, ServiceOptions};
pub use outcome::{FailureKind, StepFailure};
pub use plan::{HeldStep, Ignored, Plan, PruneBlock, PruneVerdict, ResourcePlan, Suspension, Wait};
pub use record::{Availability, Record, RecordId, Scalar, Source};
pub use rollout::{
    Gate, Going, RolloutFailure, RolloutPolicy, RolloutScope, RolloutSettings, RolloutStatus, Rollouts, Share,
};
pub use run::RunId;
pub use service::{Mark, RemovalTerms, ServiceSpec, SpecHash};
pub use settings::{PlatformKind, Settings};
pub use shared::SharedMap;
pub use source::{CommitInfo, SourceKind, SourcePlace, SourceTrouble, TroubleReason};
pub use status::{Condition, ConditionKind, Drift, DriftType, Health, Sync};
pub use step::{FieldChange, PlannedStep, Reason, RecordStep, ServiceStep, Step, StepVerb};
pub use verdict::{Block, BlockKind, Failing, FixedBy, GIVE_UP_AFTER, Progress, Verdict};
pub use windows::{InvalidWindows, Repairs, WindowRule, WindowState, Windows};
