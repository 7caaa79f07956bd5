//! Files of a lab host that replace the machine's: the resolver's, and the order of name look-ups.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use super::error::IoContext;
use super::{Host, LabError};

const RESOLV: &str = "/etc/resolv.conf";
const NSSWITCH: &str = "/etc/nsswitch.conf";

/// Directories with sockets that reach the machine's resolver from any network namespace.
const NAME_SERVICES: [&str; 2] = ["/run/nscd", "/run/systemd/resolve"];

/// Makes later mounts private to this mount namespace, and mounts a /proc with the lab's processes.
pub(super) fn isolate_mounts() -> Result<(), LabError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("keep the lab's mounts from the machine")?;
    // In a container that hides parts of /proc, mounting a new one may be forbidden. The old one works too, but `ps`
    // then shows the machine's processes.
    let _ = mount("proc", "/proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None);
    Ok(())
}

/// Mounts a lab host's files in `dir` over the machine's.
pub(super) fn put(dir: &Path, host: Host, resolver: Option<Ipv4Addr>) -> Result<(), LabError> {
    // Before the files: `/etc/resolv.conf` may be a link into one of these.
    let resolv = dir.join(format!("resolv.{host}"));
    write(&resolv, &resolv_conf(host, resolver))?;
    mount_bind(&resolv, RESOLV).context(format!("put the resolver of `{host}` over {RESOLV} (the file must exist)"))?;
    if let Ok(text) = fs::read_to_string(NSSWITCH) {
        let nsswitch = dir.join("nsswitch.conf");
        write(&nsswitch, &dns_only(&text))?;
        mount_bind(&nsswitch, NSSWITCH).context(format!("put the lab's file over {NSSWITCH}"))?;
    }
    let empty = dir.join("empty");
    for service in NAME_SERVICES.map(Path::new).into_iter().filter(|service| service.is_dir()) {
        // The resolver's file may be in it, and is already replaced.
        if fs::canonicalize(RESOLV).is_ok_and(|target| target.starts_with(service)) {
            continue;
        }
        fs::create_dir_all(&empty).map_err(|source| LabError::File { what: "make", path: empty.clone(), source })?;
        mount_bind(&empty, service).context(format!("hide the machine's name service at {}", service.display()))?;
    }
    Ok(())
}

fn resolv_conf(host: Host, resolver: Option<Ipv4Addr>) -> String {
    match resolver {
        // By default tools wait for 5 s before they retry; the machine's search domains have no meaning here.
        Some(ip) => format!("# The resolver of `{host}` in the lab.\nnameserver {ip}\noptions timeout:2 attempts:2\n"),
        None => format!(
            "# `{host}` gets no answers from the gateway.\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
        ),
    }
}

/// The file with host names looked up in `/etc/hosts` and by DNS only, as other methods use the machine's resolver.
fn dns_only(nsswitch: &str) -> String {
    let others = nsswitch.lines().filter(|line| !line.trim_start().starts_with("hosts:"));
    others.chain(["hosts: files dns"]).map(|line| format!("{line}\n")).collect()
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(|source| LabError::File { what: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_by_dns_alone_and_the_rest_is_kept() {
        let text = "passwd: files systemd\nhosts: files mymachines resolve [!UNAVAIL=return] dns\n";
        assert_eq!(dns_only(text), "passwd: files systemd\nhosts: files dns\n");
    }

    #[test]
    fn a_places_resolver_is_its_only_one() {
        let text = resolv_conf(Host::Vpc, Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(
            text.lines().filter(|line| line.starts_with("nameserver")).collect::<Vec<_>>(),
            ["nameserver 10.0.0.2"]
        );
    }
}
