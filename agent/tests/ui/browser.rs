//! `browser/views.mjs` in Debian's Chromium, driven by Playwright; `cargo xtask setup` installs both.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::json;

use crate::Report;
use crate::own::{BACK, FRONT, Scene, TRUTH};

const NAME: &str = "the page in a browser";

pub fn all(report: &mut Report, scene: &Scene) -> Result<()> {
    if !report.wanted(NAME) {
        return Ok(());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui/browser");
    let Some(chromium) = on_path(&["chromium", "chromium-browser", "google-chrome"]) else {
        report.skip(NAME, "Chromium is not installed: cargo xtask setup");
        return Ok(());
    };
    let Some(node) = on_path(&["node"]) else {
        report.skip(NAME, "Node.js is not installed: cargo xtask setup");
        return Ok(());
    };
    if !folder.join("node_modules/playwright-core").is_dir() || !folder.join("node_modules/axe-core").is_dir()
    {
        report.skip(NAME, "playwright-core and axe-core are not installed: cargo xtask setup");
        return Ok(());
    }
    // What this end of the scene adds: server spans and the client spans of the relays.
    let count = TRUTH.front() + TRUTH.relays;
    let expect = json!({
        "count": count,
        "errors": TRUTH.fails,
        "spans": count + TRUTH.relays,
        "services": { FRONT: [TRUTH.front(), TRUTH.fails], BACK: [TRUTH.relays, 0] },
        "edges": [[FRONT, BACK], ["outside", FRONT]],
        "operations": {
            format!("{FRONT} GET /users/{{id}}"): [TRUTH.users, 0],
            format!("{FRONT} GET /fail"): [TRUTH.fails, TRUTH.fails],
            format!("{FRONT} GET /relay"): [TRUTH.relays, 0],
            format!("{FRONT} GET /slow"): [TRUTH.slow, 0],
            format!("{BACK} GET /ok"): [TRUTH.relays, 0],
        },
        "hostile": ["<script>globalThis.hacked=1</script>", "<img src=x onerror=globalThis.hacked=1>"],
        "front": FRONT,
        "back": BACK,
        "address": format!("http://{}", scene.front),
    });
    let mut child = Command::new(node)
        .arg("views.mjs")
        .current_dir(&folder)
        .env("LINK", &scene.page.link)
        .env("CHROMIUM", chromium)
        .env("EXPECT", expect.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .context("start node")?;
    let mut checks = 0;
    for line in BufReader::new(child.stdout.take().context("piped")?).lines().map_while(Result::ok) {
        if let Some(name) = line.strip_prefix("ok ") {
            report.pass(&format!("page: {name}"));
            checks += 1;
        } else if let Some(failure) = line.strip_prefix("not ok ") {
            let (name, why) = failure.split_once(": ").unwrap_or((failure, ""));
            report.fail(&format!("page: {name}"), why);
            checks += 1;
        } else {
            println!("        {line}");
        }
    }
    let status = child.wait()?;
    if !status.success() || checks == 0 {
        report.fail(NAME, &format!("{status} after {checks} checks"));
    }
    Ok(())
}

pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}
