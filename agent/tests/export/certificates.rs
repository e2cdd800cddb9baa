//! A certificate authority of the test's own, a server certificate for 127.0.0.1, a client certificate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

pub struct Certificates {
    pub authority: PathBuf,
    pub server: PathBuf,
    pub server_key: PathBuf,
    pub client: PathBuf,
    pub client_key: PathBuf,
}

impl Certificates {
    pub fn make(folder: &Path) -> Result<Self> {
        let file = |name: &str| folder.join(name);
        let all = Self {
            authority: file("ca.pem"),
            server: file("server.pem"),
            server_key: file("server.key"),
            client: file("client.pem"),
            client_key: file("client.key"),
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        let authority_key = file("ca.key");
        openssl(
            ["req", "-x509"].iter().chain(&key),
            &["-subj", "/CN=skep test authority"],
            &[("-keyout", &authority_key), ("-out", &all.authority)],
        )?;
        let extensions = file("server.ext");
        fs::write(&extensions, "subjectAltName=IP:127.0.0.1,DNS:localhost\n")?;
        for (name, certificate, secret) in
            [("server", &all.server, &all.server_key), ("client", &all.client, &all.client_key)]
        {
            let request = file("request.csr");
            let subject = format!("/CN=skep test {name}");
            openssl(
                ["req"].iter().chain(&key[..5]),
                &["-subj", &subject],
                &[("-keyout", secret), ("-out", &request)],
            )?;
            openssl(
                ["x509", "-req", "-days", "2", "-CAcreateserial"].iter(),
                &[],
                &[
                    ("-in", &request),
                    ("-CA", &all.authority),
                    ("-CAkey", &authority_key),
                    ("-extfile", &extensions),
                    ("-out", certificate),
                ],
            )?;
        }
        Ok(all)
    }
}

fn openssl<'a>(
    words: impl Iterator<Item = &'a &'a str>,
    more: &[&str],
    files: &[(&str, &PathBuf)],
) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(words).args(more);
    for (flag, path) in files {
        command.arg(flag).arg(path);
    }
    let output = command.stdin(Stdio::null()).output().context("run openssl, for certificates")?;
    if !output.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
