//! `${NAME}`, `${NAME:-default}` and `$$` in the values of the file.

/// A value is not longer.
const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Replaces what stands in `${…}`; `$$` is a dollar sign, and so is one that no brace follows.
pub(super) fn substitute(text: String, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if !text.contains('$') {
        return Ok(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('{') {
            let end = tail.find('}').ok_or("${ without }: write $$ for a dollar sign")?;
            out.push_str(&value(&tail[..end], variable)?);
            rest = &tail[end + 1..];
        } else {
            out.push('$');
        }
        if out.len() > MAX_VALUE_BYTES {
            return Err(format!("longer than {} kB with its variables", MAX_VALUE_BYTES / 1024));
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value(reference: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    // OpenTelemetry's files may say where the value comes from.
    let name = name.strip_prefix("env:").unwrap_or(name);
    let well_formed = name.bytes().enumerate().all(|(index, byte)| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'_' => true,
        b'0'..=b'9' => index > 0,
        _ => false,
    });
    if name.is_empty() || !well_formed {
        return Err(format!("${{{reference}}}: give the name of a variable; write $$ for a dollar sign"));
    }
    match (variable(name), default) {
        // As in a shell, `:-` also replaces what is empty.
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(format!("${{{name}}}: the variable is not set; a default would be ${{{name}:-…}}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let variable = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "REF" => Some("${A}".to_owned()),
            _ => None,
        };
        match (substitute(text.to_owned(), &variable), expected) {
            (Ok(actual), Ok(expected)) => assert_eq!(actual, expected, "{text}"),
            (Err(actual), Err(part)) => assert!(actual.contains(part), "{text}: {actual}"),
            (actual, _) => panic!("{text}: {actual:?}"),
        }
    }

    #[test]
    fn variables_are_replaced() {
        check("x${A}y${A}", Ok("xoneyone"));
        check("${env:A}", Ok("one"));
        check("${B:-two}", Ok("two"));
        check("${A:-two}", Ok("one"));
        check("${EMPTY:-two}", Ok("two"));
        check("${EMPTY}", Ok(""));
        check("${B:-}", Ok(""));
        check("$${A}", Ok("${A}"));
        check("$$$$", Ok("$$"));
        check("^/a$", Ok("^/a$"));
        check("$A", Ok("$A"));
        // What a variable holds is not looked at again.
        check("${REF}", Ok("${A}"));
        check("${B}", Err("${B}: the variable is not set"));
        check("${A", Err("without }"));
        check("${}", Err("name of a variable"));
        check("${1A}", Err("name of a variable"));
        check("${A-B}", Err("name of a variable"));
    }

    #[test]
    fn a_value_does_not_grow_without_bounds() {
        let text = "${A}".repeat(10_000);
        assert!(substitute(text, &|_| Some("x".repeat(100))).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "(\\PC|[${}:-]){0,100}") {
            if let Ok(out) = substitute(text.clone(), &|_| Some("v".into())) {
                prop_assert!(text.contains('$') || out == text);
            }
        }
    }
}
