//! docs/protocols.md, from the table.

use std::fmt::Write as _;

use super::table::{OTHERS, PROTOCOLS, Protocol};

const HEAD: &str = "\
# Protocols

Made from the table behind `skep protocols` (a test compares them); `skep protocols --json` is the same for programs.

What a connection speaks is told from its bytes, within the first exchange, never from the port; a wrong guess is
corrected and counted. Connections that were open before Skep are joined at a turn that begins with a whole message;
what cannot be known then is left out. Literals, keys, values and credentials are not kept. Names and attributes:
[semconv.md](semconv.md).

";

const COMPARED: &str = "\
## Compared with Grafana Beyla

Row by row with the protocols of Beyla and of OpenTelemetry's OBI, on which its current versions are built (2.5 to 3.33,
read from their sources and documentation). What Skep has is proved by the tests that the last column names.

| protocol | Beyla | Skep | proved by |
|---|---|---|---|
";

/// The page.
pub fn page() -> String {
    let mut out = String::from(HEAD);
    for protocol in PROTOCOLS {
        let Protocol { name, ends, over, span, reads, limits, .. } = protocol;
        let _ = write!(
            out,
            "## {name}\n\nEnds: {ends}. Over: {over}.\n\n- **Span**: {span}\n- **Reads**: {reads}\n- **Limits**: \
             {limits}\n\n"
        );
    }
    out.push_str(COMPARED);
    for Protocol { name, peer, reads, ends, proofs, .. } in PROTOCOLS {
        let proofs: Vec<String> = proofs.iter().map(|proof| format!("`{proof}`")).collect();
        let _ = writeln!(out, "| {name} | {peer} | {ends}: {reads} | {} |", proofs.join(", "));
    }
    for other in OTHERS {
        let _ = writeln!(out, "| {} | {} | {} | |", other.name, other.peer, other.ours);
    }
    out
}
