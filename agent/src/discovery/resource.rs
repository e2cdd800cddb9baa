//! Who a process is in OpenTelemetry's words: the attributes of its resource.
//!
//! In: [`Facts`], read from /proc while the process was alive, and the host's own identity. Out: [`Resource`], made
//! once for a process image and printed with each of its spans. What the target's own environment says
//! (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`) comes before anything that is derived.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agent_pipeline::metrics::Named;
use agent_pipeline::semconv;

use super::container;
use super::language::Language;
use super::procfs;
use super::program::{self, Surroundings, file_name};
use super::rules::RuleId;
use crate::export::otlp::encode::resource_message;
use crate::output::json::write_string;

/// The attributes of one process image.
#[derive(Clone, Debug)]
pub struct Resource {
    /// `service.name`.
    pub service_name: String,
    /// A number that no other resource of this run has.
    pub serial: u64,
    /// The rule that the process falls under.
    pub rule: RuleId,
    /// All attributes, in printing order.
    pub attributes: Vec<(Cow<'static, str>, ResourceValue)>,
    /// The attributes as a JSON object.
    pub json: Vec<u8>,
    /// The attributes as an OTLP `Resource` message.
    pub protobuf: Arc<[u8]>,
}

/// A resource attribute's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceValue {
    /// Text.
    Text(String),
    /// Number.
    Int(i64),
}

/// What a rule says of the processes that fall under it; it comes before what they say themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `service.name`
    pub service_name: Option<String>,
    /// All other attributes.
    pub attributes: Vec<(String, String)>,
}

/// What is the same for all processes of this host.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    id: Option<String>,
}

/// What /proc told about a process image.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Process number in the initial pid namespace.
    pub tgid: u32,
    /// Number inside its own pid namespace, where it differs.
    pub ns_pid: Option<u32>,
    /// Clock ticks between boot and its start; 0 where it was gone too soon.
    pub start_ticks: u64,
    /// Path of the executable.
    pub exe: Vec<u8>,
    /// Command line.
    pub arguments: Vec<Vec<u8>>,
    /// `OTEL_SERVICE_NAME`.
    pub service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, decoded.
    pub environment_attributes: Vec<(String, String)>,
    /// Container.
    pub container_id: Option<String>,
}

/// The next resource's number.
static SERIAL: AtomicU64 = AtomicU64::new(0);
/// Attributes that the environment may not replace: they say what was observed and by whom.
const OBSERVED: &[&str] =
    &[semconv::PROCESS_PID, semconv::TELEMETRY_DISTRO_NAME, semconv::TELEMETRY_DISTRO_VERSION];
const MAX_ENVIRON_BYTES: usize = 1 << 20;
const MAX_ENVIRONMENT_ATTRIBUTES: usize = 64;
const MAX_VALUE_BYTES: usize = 1024;
/// The namespace that OpenTelemetry reserves for `service.instance.id` made by UUIDv5.
const INSTANCE_NAMESPACE: [u8; 16] =
    [0x4d, 0x63, 0x00, 0x9a, 0x8d, 0x0f, 0x11, 0xee, 0xaa, 0xd7, 0x4c, 0x79, 0x6e, 0xd8, 0xe3, 0x20];

impl Host {
    /// Reads the host's identity.
    pub fn read() -> Self {
        let line = |path| {
            let text = String::from_utf8(procfs::read(path, 256)?).ok()?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        Self {
            name: line("/proc/sys/kernel/hostname").unwrap_or_else(|| "localhost".to_owned()),
            id: line("/etc/machine-id").or_else(|| line("/var/lib/dbus/machine-id")),
        }
    }
}

impl Facts {
    /// Reads what /proc tells; what is gone already stays empty.
    pub fn read(tgid: u32) -> Self {
        let environ = procfs::read_of(tgid, "environ", MAX_ENVIRON_BYTES).unwrap_or_default();
        let variable = |name: &[u8]| {
            environ
                .split(|&byte| byte == 0)
                .find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
                .filter(|value| !value.is_empty())
        };
        let cgroup = procfs::read_of(tgid, "cgroup", 64 * 1024).unwrap_or_default();
        Self {
            tgid,
            ns_pid: ns_pid(tgid),
            start_ticks: start_ticks(tgid),
            exe: procfs::exe(tgid).unwrap_or_default(),
            arguments: procfs::arguments(tgid),
            service_name: variable(b"OTEL_SERVICE_NAME").map(bounded_text),
            environment_attributes: variable(b"OTEL_RESOURCE_ATTRIBUTES")
                .and_then(parse_attributes)
                .unwrap_or_default(),
            container_id: container::container_id(&cgroup),
        }
    }

    /// The facts of a child just after its birth: those of its parent, but for its numbers.
    pub fn of_child(&self, tgid: u32) -> Self {
        Self { tgid, ns_pid: ns_pid(tgid), start_ticks: start_ticks(tgid), ..self.clone() }
    }
}

impl Resource {
    /// Puts the attributes together.
    pub fn new(host: &Host, facts: &Facts, language: Option<Language>, rule: (RuleId, &Identity)) -> Self {
        let (rule, identity) = rule;
        let said = || identity.attributes.iter().chain(&facts.environment_attributes);
        let from_environment =
            |name: &str| said().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let service_name = identity
            .service_name
            .clone()
            .or_else(|| facts.service_name.clone())
            .or_else(|| from_environment(semconv::SERVICE_NAME))
            .unwrap_or_else(|| {
                program::program_name(language, &facts.exe, &facts.arguments, &Folders(facts.tgid))
            });

        let mut attributes = Vec::new();
        let mut add = |name: &'static str, value: Option<ResourceValue>| {
            let replaced = from_environment(name).filter(|_| !OBSERVED.contains(&name));
            if let Some(value) = replaced.map(ResourceValue::Text).or(value) {
                attributes.push((Cow::Borrowed(name), value));
            }
        };
        let text = |text: &str| Some(ResourceValue::Text(text.to_owned()));
        let executable = String::from_utf8_lossy(file_name(&facts.exe)).into_owned();
        add(semconv::SERVICE_INSTANCE_ID, text(&instance_id(host, facts)));
        add(semconv::HOST_NAME, text(&host.name));
        add(semconv::HOST_ID, host.id.clone().map(ResourceValue::Text));
        add(semconv::OS_TYPE, text("linux"));
        add(semconv::PROCESS_PID, Some(ResourceValue::Int(facts.tgid.into())));
        add(semconv::PROCESS_VPID, facts.ns_pid.map(|pid| ResourceValue::Int(pid.into())));
        add(semconv::PROCESS_EXECUTABLE_NAME, Some(ResourceValue::Text(executable)));
        add(semconv::TELEMETRY_SDK_LANGUAGE, language.and_then(|language| text(language.as_str())));
        add(semconv::CONTAINER_ID, facts.container_id.clone().map(ResourceValue::Text));
        add(semconv::TELEMETRY_DISTRO_NAME, text("skep"));
        add(semconv::TELEMETRY_DISTRO_VERSION, text(env!("CARGO_PKG_VERSION")));
        attributes
            .insert(0, (Cow::Borrowed(semconv::SERVICE_NAME), ResourceValue::Text(service_name.clone())));
        for (name, value) in said() {
            if !attributes.iter().any(|(known, _)| known == name) {
                attributes.push((Cow::Owned(name.clone()), ResourceValue::Text(value.clone())));
            }
        }
        let json = to_json(&attributes);
        let pairs = attributes.iter().map(|(name, value)| (name.as_ref(), value));
        let protobuf = resource_message(pairs).into();
        Self {
            service_name,
            rule,
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            attributes,
            json,
            protobuf,
        }
    }
}

impl Resource {
    /// An attribute that is a text, if it is set.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.iter().find(|(known, _)| known == name) {
            Some((_, ResourceValue::Text(text))) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// Skep itself.
    pub fn own(host: &Host) -> Self {
        let mut facts = Facts::read(std::process::id());
        facts.service_name.get_or_insert_with(|| "skep".to_owned());
        let version = (semconv::SERVICE_VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        facts.environment_attributes.push(version);
        Self::new(host, &facts, Some(Language::Rust), (RuleId::MAX, &Identity::default()))
    }
}

impl Named for Resource {
    fn service_name(&self) -> &str {
        &self.service_name
    }

    fn is_same_target(&self, other: &Self) -> bool {
        let same = |name| self.text(name) == other.text(name);
        self.service_name == other.service_name
            && same(semconv::SERVICE_NAMESPACE)
            && same(semconv::SERVICE_INSTANCE_ID)
    }
}

/// The files that a program's name may depend on, as the process sees them.
struct Folders(u32);

impl Surroundings for Folders {
    fn package_name(&self, folder: &str) -> Option<String> {
        const MAX_PACKAGE_BYTES: usize = 64 * 1024;
        let path = procfs::path_inside(self.0, format!("{folder}/package.json").as_bytes());
        // A FIFO in that place would block: only regular files are opened.
        if !std::fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let bytes = procfs::read(path, MAX_PACKAGE_BYTES)?;
        let package: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        let name = package.get("name")?.as_str()?;
        (!name.is_empty() && name.len() <= MAX_VALUE_BYTES).then(|| name.to_owned())
    }

    fn working_directory(&self) -> Option<String> {
        std::fs::read_link(format!("/proc/{}/cwd", self.0)).ok()?.into_os_string().into_string().ok()
    }
}

fn ns_pid(tgid: u32) -> Option<u32> {
    procfs::tgid_and_ns_pid(tgid).and_then(|(_, ns_pid)| ns_pid).filter(|&ns_pid| ns_pid != tgid)
}

fn start_ticks(tgid: u32) -> u64 {
    procfs::stat(tgid).map_or(0, |stat| stat.start_ticks)
}

fn bounded_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_VALUE_BYTES)]).into_owned()
}

/// `key=value,key=value`, percent-encoded. As the specification wants, one error discards the whole text.
fn parse_attributes(text: &[u8]) -> Option<Vec<(String, String)>> {
    text.split(|&byte| byte == b',')
        .filter(|pair| !pair.trim_ascii().is_empty())
        .take(MAX_ENVIRONMENT_ATTRIBUTES)
        .map(|pair| {
            let equals = memchr::memchr(b'=', pair)?;
            let key = percent_decode(pair[..equals].trim_ascii())?;
            let value = percent_decode(pair[equals + 1..].trim_ascii())?;
            (!key.is_empty() && key.len() <= MAX_VALUE_BYTES && value.len() <= MAX_VALUE_BYTES)
                .then_some((key, value))
        })
        .collect()
}

/// Percent-decoded text, if it is UTF-8 then.
pub(crate) fn percent_decode(text: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        decoded.push(match byte {
            b'%' => {
                let digits =
                    std::str::from_utf8(rest.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

/// UUIDv5 of host, process number and start time: the same however often Skep is started.
fn instance_id(host: &Host, facts: &Facts) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(&INSTANCE_NAMESPACE);
    let host = host.id.as_deref().unwrap_or(&host.name);
    hash.update(format!("{host}/{}/{}", facts.tgid, facts.start_ticks).as_bytes());
    let digest = hash.digest().bytes();
    let mut id = String::with_capacity(36);
    for (index, mut byte) in digest.into_iter().take(16).enumerate() {
        match index {
            6 => byte = byte & 0x0f | 0x50,
            8 => byte = byte & 0x3f | 0x80,
            _ => {}
        }
        if matches!(index, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            id.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    id
}

fn to_json(attributes: &[(Cow<'static, str>, ResourceValue)]) -> Vec<u8> {
    let mut json = Vec::with_capacity(512);
    json.push(b'{');
    for (index, (name, value)) in attributes.iter().enumerate() {
        if index != 0 {
            json.push(b',');
        }
        write_string(&mut json, name);
        json.push(b':');
        match value {
            ResourceValue::Text(text) => write_string(&mut json, text),
            ResourceValue::Int(number) => json.extend_from_slice(number.to_string().as_bytes()),
        }
    }
    json.push(b'}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host { name: "box".into(), id: Some("3d12".into()) }
    }

    fn resource(service_name: Option<&str>, attributes: &str) -> serde_json::Value {
        resource_by_rule(service_name, attributes, &Identity::default())
    }

    fn resource_by_rule(
        service_name: Option<&str>,
        attributes: &str,
        identity: &Identity,
    ) -> serde_json::Value {
        let facts = Facts {
            tgid: 42,
            ns_pid: Some(7),
            start_ticks: 1000,
            exe: b"/usr/bin/python3.11".to_vec(),
            arguments: vec![b"python3".to_vec(), b"app.py".to_vec()],
            service_name: service_name.map(str::to_owned),
            environment_attributes: parse_attributes(attributes.as_bytes()).unwrap_or_default(),
            container_id: None,
        };
        let resource = Resource::new(&host(), &facts, Some(Language::Python), (0, identity));
        let json: serde_json::Value = serde_json::from_slice(&resource.json).unwrap();
        assert_eq!(json["service.name"], resource.service_name);
        json
    }

    #[test]
    fn the_environment_names_the_service() {
        assert_eq!(resource(Some("shop"), "service.name=x")["service.name"], "shop");
        assert_eq!(resource(None, "service.name=my%20shop")["service.name"], "my shop");
        assert_eq!(resource(None, "")["service.name"], "app");
    }

    #[test]
    fn a_rule_comes_before_what_the_process_says_itself() {
        let identity = |service_name: Option<&str>, attributes: &[(&str, &str)]| Identity {
            service_name: service_name.map(str::to_owned),
            attributes: attributes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let rule = identity(Some("pay"), &[("team", "a"), ("host.name", "h"), ("process.pid", "1")]);
        let json = resource_by_rule(Some("shop"), "team=b,tier=1", &rule);
        assert_eq!(json["service.name"], "pay");
        assert_eq!((&json["team"], &json["tier"]), (&"a".into(), &"1".into()));
        assert_eq!(json["host.name"], "h");
        assert_eq!(json["process.pid"], 42);
        let json = resource_by_rule(Some("shop"), "", &identity(None, &[]));
        assert_eq!(json["service.name"], "shop");
    }

    #[test]
    fn environment_attributes_are_kept_but_cannot_lie_about_what_was_observed() {
        let json = resource(
            None,
            "deployment.environment.name=prod, host.name=alias,process.pid=1,telemetry.distro.name=z",
        );
        assert_eq!(json["deployment.environment.name"], "prod");
        assert_eq!(json["host.name"], "alias");
        assert_eq!(json["process.pid"], 42);
        assert_eq!(json["process.vpid"], 7);
        assert_eq!(json["telemetry.distro.name"], "skep");
        assert_eq!(json["telemetry.sdk.language"], "python");
        assert_eq!(json["process.executable.name"], "python3.11");
    }

    #[test]
    fn one_broken_attribute_discards_all() {
        for bad in ["a=1,b", "a=%zz", "a=%f", "=1", "a=%ff"] {
            assert_eq!(parse_attributes(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(
            parse_attributes(b"a=1,,b=2,"),
            Some(vec![("a".into(), "1".into()), ("b".into(), "2".into())])
        );
    }

    #[test]
    fn instance_ids_are_stable_uuids_of_version_5() {
        let facts = Facts { tgid: 1, start_ticks: 2, ..Facts::default() };
        let id = instance_id(&host(), &facts);
        assert_eq!(id, instance_id(&host(), &facts));
        assert_ne!(id, instance_id(&host(), &Facts { start_ticks: 3, ..facts }));
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'5');
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn this_process_has_facts() {
        let facts = Facts::read(std::process::id());
        assert_ne!(facts.start_ticks, 0);
        assert!(!facts.exe.is_empty() && !facts.arguments.is_empty());
    }
}
