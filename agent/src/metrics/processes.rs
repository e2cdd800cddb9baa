//! What watched processes use: CPU, memory, descriptors. Read from /proc when somebody asks, on the reader's thread.

use std::sync::Arc;

use agent_pipeline::metrics::Named;
use agent_pipeline::metrics::resources::OWN as OWN_RESOURCE;
use agent_pipeline::semconv;

use super::collection::{Collection, Kind, Metric, Number, own_point};
use crate::discovery::resource::Resource;
use crate::discovery::usage::{self, ProcessUsage};

/// Processes that are read at a time.
const MAX_PROCESSES: usize = 1024;

/// Names and values of a data point's attributes.
type Labels = &'static [(&'static str, &'static str)];

struct ProcessMetric {
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    description: &'static str,
    read: fn(&ProcessUsage) -> Vec<(Labels, Number)>,
}

const METRICS: &[ProcessMetric] = &[
    ProcessMetric {
        name: semconv::PROCESS_CPU_TIME,
        kind: Kind::Counter,
        unit: "s",
        description: "CPU time of the process.",
        read: |usage| {
            vec![
                (&[(semconv::CPU_MODE, "user")], Number::Double(usage.user_s)),
                (&[(semconv::CPU_MODE, "system")], Number::Double(usage.system_s)),
            ]
        },
    },
    ProcessMetric {
        name: semconv::PROCESS_MEMORY_USAGE,
        kind: Kind::UpDownCounter,
        unit: "By",
        description: "Resident memory of the process.",
        read: |usage| vec![(&[], int(usage.resident_bytes))],
    },
    ProcessMetric {
        name: semconv::PROCESS_MEMORY_VIRTUAL,
        kind: Kind::UpDownCounter,
        unit: "By",
        description: "Virtual memory of the process.",
        read: |usage| vec![(&[], int(usage.virtual_bytes))],
    },
    ProcessMetric {
        name: semconv::PROCESS_UNIX_FILE_DESCRIPTOR_COUNT,
        kind: Kind::UpDownCounter,
        unit: "{file_descriptor}",
        description: "File descriptors that the process has open.",
        read: |usage| usage.descriptors.map(|count| (&[][..], int(count))).into_iter().collect(),
    },
];

/// Adds the metrics of these processes; those that are one target to a reader are added up.
pub(super) fn add(processes: &[(u32, Arc<Resource>)], collection: &mut Collection) {
    let mut targets: Vec<(u32, u32, ProcessUsage)> = Vec::new();
    for (tgid, resource) in processes.iter().take(MAX_PROCESSES) {
        let Some(usage) = usage::read(*tgid) else { continue };
        let slot = slot_of(resource, &mut collection.resources);
        match targets.iter_mut().find(|(known, ..)| *known == slot) {
            Some((.., sum)) => sum.add(&usage),
            None => targets.push((slot, *tgid, usage)),
        }
    }
    for metric in METRICS {
        let mut points = Vec::new();
        for (slot, tgid, usage) in &targets {
            for (index, (labels, number)) in (metric.read)(usage).into_iter().enumerate() {
                let id = 1 << 62 | u64::from(*tgid) << 8 | index as u64;
                points.push(own_point(*slot, id, usage.start_unix_ns, labels, number));
            }
        }
        collection.metrics.push(Metric {
            name: metric.name,
            prometheus_name: None,
            kind: metric.kind,
            unit: metric.unit,
            description: metric.description,
            bounds: &[],
            resource_attributes: &[],
            points,
        });
    }
}

/// The index of a resource, which may have series of requests already.
fn slot_of(resource: &Arc<Resource>, resources: &mut Vec<Option<Arc<Resource>>>) -> u32 {
    let same =
        |known: &Option<Arc<Resource>>| known.as_ref().is_some_and(|known| known.is_same_target(resource));
    let index = resources.iter().position(same).unwrap_or_else(|| {
        resources.push(Some(Arc::clone(resource)));
        resources.len() - 1
    });
    u32::try_from(index).unwrap_or(OWN_RESOURCE)
}

fn int(value: u64) -> Number {
    Number::Int(i64::try_from(value).unwrap_or(i64::MAX))
}
