//! The id of the container that a process runs in, read from /proc/PID/cgroup.
//!
//! Every runtime puts the 64 hex digits of the id into the last folder of the cgroup's path, with its own name
//! around them: `/docker/ID`, `/system.slice/docker-ID.scope`, `…/cri-containerd-ID.scope`, `/kubepods/…/ID`,
//! `…/libpod-ID.scope/container`, and ECS's `/ecs/TASK/TASK-DIGITS`.

/// The container's id, where the process runs in one.
pub(super) fn container_id(cgroup: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(cgroup).ok()?;
    // hierarchy:controllers:path, one line a hierarchy (v1), or the one line `0::path` (v2).
    paths(text).find_map(id_of_path)
}

/// The paths of a process's control groups.
pub(super) fn paths(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2))
}

fn id_of_path(path: &str) -> Option<String> {
    path.rsplit('/').find_map(|folder| {
        let name = folder.strip_suffix(".scope").unwrap_or(folder);
        let id = name.rsplit(['-', ':']).next()?;
        if is_hex(id, 64) {
            return Some(id.to_owned());
        }
        // ECS on Fargate: 32 hex digits, a dash, decimal digits.
        let (task, number) = name.split_once('-')?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        (is_hex(task, 32) && digits).then(|| name.to_owned())
    })
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3c1f0d9a7be24f0a9b3c1f0d9a7be24f0a9b3c1f0d9a7be24f0a9b3c1f0d9a7b";

    fn check(cgroup: &str, expected: Option<&str>) {
        assert_eq!(container_id(cgroup.replace("ID", ID).as_bytes()).as_deref(), expected, "{cgroup}");
    }

    #[test]
    fn ids_of_all_runtimes_are_found() {
        check("12:memory:/docker/ID\n0::/\n", Some(ID));
        check("0::/system.slice/docker-ID.scope\n", Some(ID));
        check("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-ID.scope\n", Some(ID));
        check("1:name=systemd:/kubepods/besteffort/pod1/ID\n", Some(ID));
        check("0::/machine.slice/libpod-ID.scope/container\n", Some(ID));
        check("0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:ID\n", Some(ID));
        let ecs = "0123456789abcdef0123456789abcdef-1234567890";
        check(&format!("9:cpu:/ecs/0123456789abcdef0123456789abcdef/{ecs}\n"), Some(ecs));
    }

    #[test]
    fn a_process_of_the_host_has_none() {
        check("0::/user.slice/user-0.slice/session-1.scope\n", None);
        check("0::/\n", None);
        check("", None);
        check("\u{0}garbage", None);
        check("8:x:/process_api/abd3fade017da3d4ed6a70564bf554b0\n", None);
    }
}
