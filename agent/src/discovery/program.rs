//! The name that people give to a program: `python app.py` → app, `java -jar shop.jar` → shop, `node server.js` →
//! server, else the file name of the executable.
//!
//! In: arguments and executable. Out: a name, never empty. Files are asked only through [`Surroundings`].

use super::language::Language;

/// What the name may depend on besides the arguments.
pub(super) trait Surroundings {
    /// The `name` in the package.json of that folder, as the process sees it.
    fn package_name(&self, folder: &str) -> Option<String>;
    /// The process's working directory.
    fn working_directory(&self) -> Option<String>;
}

/// Servers that run someone else's application: the application's name is wanted.
const APPLICATION_SERVERS: &[&str] =
    &["gunicorn", "uvicorn", "hypercorn", "daphne", "granian", "waitress-serve", "flask", "celery", "uwsgi"];
/// Options of those servers (and of `python -m …`) that are followed by a value.
const SERVER_VALUE_OPTIONS: &[&str] = &[
    "-b",
    "--bind",
    "-w",
    "--workers",
    "-k",
    "--worker-class",
    "-c",
    "--config",
    "--host",
    "--port",
    "-p",
    "-t",
    "--timeout",
    "--log-level",
    "--threads",
    "-n",
    "--name",
    "--chdir",
    "--interface",
    "-h",
    "--uds",
    "--loop",
];

/// Names the program. `language` decides which rule reads the arguments.
pub(super) fn program_name(
    language: Option<Language>,
    exe: &[u8],
    arguments: &[Vec<u8>],
    surroundings: &dyn Surroundings,
) -> String {
    let arguments: Vec<String> =
        arguments.iter().skip(1).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let named = match language {
        Some(Language::Python) => python(&arguments),
        Some(Language::Java) => java(&arguments),
        Some(Language::Nodejs) => node(&arguments, surroundings),
        Some(Language::Ruby) => script(&arguments, &["-I", "-r", "-C", "-E", "-W"], &["-e"], ".rb"),
        Some(Language::Php) => script(&arguments, &["-S", "-t", "-c", "-d", "-z"], &["-r"], ".php"),
        Some(Language::Dotnet) => dotnet(&arguments),
        _ => None,
    };
    let name = named.unwrap_or_else(|| String::from_utf8_lossy(file_name(exe)).into_owned());
    if name.is_empty() { "unknown_service".to_owned() } else { name }
}

/// The last part of a path.
pub(super) fn file_name(path: &[u8]) -> &[u8] {
    &path[memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1)..]
}

fn python(arguments: &[&str]) -> Option<String> {
    let mut rest = arguments.iter();
    while let Some(&argument) = rest.next() {
        let remaining = rest.as_slice();
        match argument {
            "-m" => return python_module(remaining.first()?, remaining.get(1..)?),
            "-c" => return None,
            "-W" | "-X" | "--check-hash-based-pycs" => drop(rest.next()),
            // `-um pkg`, `-mpkg`
            flags if flags.starts_with('-') && !flags.starts_with("--") => match flags.split_once('m') {
                Some((_, "")) => return python_module(remaining.first()?, remaining.get(1..)?),
                Some((_, module)) if flags.starts_with("-m") => return python_module(module, remaining),
                _ => {}
            },
            flag if flag.starts_with("--") => {}
            path => {
                let stem = stem(path, ".py");
                return match stem {
                    server if APPLICATION_SERVERS.contains(&server) => {
                        Some(served_application(remaining).unwrap_or_else(|| server.to_owned()))
                    }
                    "__main__" | "manage" | "wsgi" | "asgi" => folder_of(path).or(Some(stem.to_owned())),
                    _ => Some(stem.to_owned()),
                };
            }
        }
    }
    None
}

fn python_module(module: &str, arguments: &[&str]) -> Option<String> {
    if APPLICATION_SERVERS.contains(&module) {
        return Some(served_application(arguments).unwrap_or_else(|| module.to_owned()));
    }
    let module = module.strip_suffix(".__main__").unwrap_or(module);
    Some(module.to_owned())
}

/// `app:app`, `pkg.module:create()`, `--app hello`, `module.wsgi` → the module, without a trailing wsgi or asgi.
fn served_application(arguments: &[&str]) -> Option<String> {
    let mut rest = arguments.iter();
    let mut fallback = None;
    while let Some(&argument) = rest.next() {
        if SERVER_VALUE_OPTIONS.contains(&argument) {
            rest.next();
            continue;
        }
        let candidate = match argument {
            "--app" | "-A" => rest.next().copied(),
            _ => argument.strip_prefix("--app=").or((!argument.starts_with('-')).then_some(argument)),
        };
        let Some(candidate) = candidate else { continue };
        match candidate.split_once(':') {
            Some((module, _)) => return Some(module_name(module)),
            None => fallback = fallback.or(Some(candidate)),
        }
    }
    match fallback {
        None | Some("run" | "worker" | "serve") => None,
        Some(module) => Some(module_name(module)),
    }
}

fn module_name(module: &str) -> String {
    let module = stem(module, ".py");
    module.strip_suffix(".wsgi").or(module.strip_suffix(".asgi")).unwrap_or(module).to_owned()
}

fn java(arguments: &[&str]) -> Option<String> {
    let mut rest = arguments.iter();
    while let Some(&argument) = rest.next() {
        match argument {
            "-jar" => return Some(stem(rest.next()?, ".jar").to_owned()),
            "-m" | "--module" => {
                let module = rest.next()?;
                return Some(last_part(module.split_once('/').map_or(*module, |(_, class)| class)));
            }
            "-cp" | "-classpath" | "--class-path" | "-p" | "--module-path" | "--add-modules"
            | "--add-opens" | "--add-exports" | "--add-reads" | "--patch-module" => drop(rest.next()),
            flag if flag.starts_with('-') || flag.starts_with('@') => {}
            // `java Server.java` runs a source file.
            source if source.ends_with(".java") => return Some(stem(source, ".java").to_owned()),
            class => return Some(last_part(class)),
        }
    }
    None
}

fn last_part(class: &str) -> String {
    class.rsplit(['.', '/']).next().unwrap_or(class).to_owned()
}

fn node(arguments: &[&str], surroundings: &dyn Surroundings) -> Option<String> {
    let mut rest = arguments.iter();
    let path = loop {
        match *rest.next()? {
            "-r"
            | "--require"
            | "--import"
            | "--loader"
            | "--experimental-loader"
            | "-C"
            | "--conditions"
            | "--title"
            | "--env-file" => drop(rest.next()),
            "-e" | "--eval" | "-p" | "--print" | "-i" => return None,
            flag if flag.starts_with('-') => {}
            path => break path,
        }
    };
    let name = [".js", ".mjs", ".cjs", ".ts"]
        .iter()
        .fold(file_str(path), |name, extension| name.strip_suffix(extension).unwrap_or(name));
    if !matches!(name, "index" | "." | "" | "main") {
        return Some(name.to_owned());
    }
    let folder = match path.trim_end_matches('/').rsplit_once('/') {
        Some((folder, _)) if name == "index" || name == "main" => folder.to_owned(),
        _ if name == "index" || name == "main" => ".".to_owned(),
        _ => path.to_owned(),
    };
    let folder = if folder.starts_with('/') {
        folder
    } else {
        let inside = folder.trim_start_matches("./").trim_matches('.').trim_matches('/');
        let directory = surroundings.working_directory()?;
        if inside.is_empty() { directory } else { format!("{}/{inside}", directory.trim_end_matches('/')) }
    };
    surroundings
        .package_name(&folder)
        .or_else(|| Some(file_str(&folder).to_owned()))
        .filter(|name| !name.is_empty())
}

fn dotnet(arguments: &[&str]) -> Option<String> {
    arguments.iter().find(|argument| argument.ends_with(".dll")).map(|path| stem(path, ".dll").to_owned())
}

/// The first argument that is no option; `with_value` take one, `inline` bring their own program.
fn script(arguments: &[&str], with_value: &[&str], inline: &[&str], extension: &str) -> Option<String> {
    let mut rest = arguments.iter();
    while let Some(&argument) = rest.next() {
        if inline.contains(&argument) {
            return None;
        }
        if with_value.contains(&argument) {
            rest.next();
        } else if !argument.starts_with('-') {
            return Some(stem(argument, extension).to_owned());
        }
    }
    None
}

fn file_str(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn stem<'a>(path: &'a str, extension: &str) -> &'a str {
    let name = file_str(path);
    name.strip_suffix(extension).filter(|stem| !stem.is_empty()).unwrap_or(name)
}

fn folder_of(path: &str) -> Option<String> {
    let (folder, _) = path.rsplit_once('/')?;
    Some(file_str(folder).to_owned()).filter(|name| !name.is_empty() && name != "." && name != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder;
    impl Surroundings for Folder {
        fn package_name(&self, folder: &str) -> Option<String> {
            (folder == "/srv/cart").then(|| "cart-service".to_owned())
        }
        fn working_directory(&self) -> Option<String> {
            Some("/srv/cart".to_owned())
        }
    }

    fn check(language: Language, line: &str, expected: &str) {
        let arguments: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let exe = format!("/usr/bin/{}", arguments[0].escape_ascii());
        assert_eq!(program_name(Some(language), exe.as_bytes(), &arguments, &Folder), expected, "{line}");
    }

    #[test]
    fn python_programs() {
        let python = |line, expected| check(Language::Python, line, expected);
        python("python app.py", "app");
        python("python3 -u /srv/app.py --port 80", "app");
        python("python3 -m http.server 8000", "http.server");
        python("python3 -um shop.main", "shop.main");
        python("python3 -X dev -m uvicorn api.main:app --port 80", "api.main");
        python("python3 /usr/bin/gunicorn -b :80 -w 4 shop.wsgi:application", "shop");
        python("python3 /usr/bin/gunicorn app:app", "app");
        python("python3 /usr/bin/flask --app hello run", "hello");
        python("python3 /usr/bin/flask run", "flask");
        python("python3 /srv/shop/manage.py runserver", "shop");
        python("python3 -m flask --app cart run -p 80", "cart");
        python("python3 -c pass", "python3");
        python("python3", "python3");
        python("python3 -m", "python3");
    }

    #[test]
    fn java_programs() {
        let java = |line, expected| check(Language::Java, line, expected);
        java("java -Xmx1g -jar /opt/shop.jar --x", "shop");
        java("java -cp a.jar:b.jar com.example.Main", "Main");
        java("java --add-opens java.base/x=ALL com.example.Shop arg", "Shop");
        java("java -m mod/com.example.Shop", "Shop");
        java("java Server.java 80", "Server");
        java("java -version", "java");
    }

    #[test]
    fn node_programs() {
        let node = |line, expected| check(Language::Nodejs, line, expected);
        node("node server.js", "server");
        node("node --max-old-space-size=1 -r ./x.js /app/api.mjs", "api");
        node("node index.js", "cart-service");
        node("node .", "cart-service");
        node("node /srv/mail/index.js", "mail");
        node("node ./sub/index.js", "sub");
        node("node -e 1", "node");
        node("node", "node");
    }

    #[test]
    fn other_programs() {
        check(Language::Ruby, "ruby -I lib app.rb", "app");
        check(Language::Php, "php -S 0.0.0.0:80 router.php", "router");
        check(Language::Dotnet, "dotnet /app/Shop.Api.dll", "Shop.Api");
        check(Language::Go, "shop serve", "shop");
    }

    #[test]
    fn a_name_is_never_empty() {
        assert_eq!(program_name(None, b"", &[], &Folder), "unknown_service");
        assert_eq!(
            program_name(Some(Language::Python), b"/x/py", &[b"py".to_vec(), b"".to_vec()], &Folder),
            "unknown_service"
        );
    }
}
