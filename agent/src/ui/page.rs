//! The page's files, embedded. Every view is a path of its own; they all are the same document, and the script shows
//! the view of the path.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const INDEX: &str = include_str!("assets/index.html");
const STYLE: &str = include_str!("assets/app.css");
const ICON: &str = include_str!("assets/icon.svg");
/// Scripts by name: plain modules that the browser loads as they are.
const SCRIPTS: &[(&str, &str)] = &[
    ("/app.js", include_str!("assets/app.js")),
    ("/base.js", include_str!("assets/base.js")),
    ("/charts.js", include_str!("assets/charts.js")),
    ("/map.js", include_str!("assets/map.js")),
    ("/views.js", include_str!("assets/views.js")),
    ("/trace.js", include_str!("assets/trace.js")),
];

/// The page's routes.
pub(super) fn routes() -> Router {
    let mut router = Router::new()
        .route("/app.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/icon.svg", get(async || file("image/svg+xml", ICON)));
    for &(path, script) in SCRIPTS {
        router = router.route(path, get(async move || file("text/javascript; charset=utf-8", script)));
    }
    for path in ["/", "/services/{service}", "/operations", "/traces", "/traces/{id}", "/agent"] {
        router = router.route(path, get(async || file("text/html; charset=utf-8", INDEX)));
    }
    router
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_small_and_asks_nobody_else() {
        let files = [INDEX, STYLE, ICON].into_iter().chain(SCRIPTS.iter().map(|&(_, script)| script));
        let mut bytes = 0;
        for file in files {
            bytes += file.len();
            let elsewhere = file.replace("http://www.w3.org/", "");
            assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"));
            for dangerous in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "document.write"] {
                assert!(!file.contains(dangerous), "{dangerous}");
            }
        }
        assert!(bytes < 150_000, "{bytes} bytes");
    }
}
