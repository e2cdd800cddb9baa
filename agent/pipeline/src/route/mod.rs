//! Routes: the low-cardinality template that a path belongs to (`http.route`).
//!
//! In: method, path and status of finished server requests. Out: a pattern from the configuration if one fits
//! (`pattern.rs`), else a template learned from the paths seen (`segment.rs`: rules for one segment, `learned.rs`:
//! the tree), else an overflow value. Memory is bounded whatever the paths. docs/routes.md says what is guaranteed.

mod learned;
mod pattern;
mod segment;

use rustc_hash::FxHashMap;

use crate::text::Text;
use learned::{Found, Tree};
pub use pattern::{Pattern, PatternError};

/// Route of a request whose path found no room in the tree.
pub const OVERFLOW: &str = "/{overflow}";
/// Longest route in bytes.
pub const ROUTE_MAX: usize = 256;
/// Servers whose routes are learned apart; further ones share one tree.
const MAX_SCOPES: usize = 256;
/// Nodes of all trees together; about 200 bytes each.
const MAX_NODES: usize = 8192;
/// Processes with patterns of their own.
const MAX_PROCESSES: usize = 8192;
/// Scope of the servers that came too late for their own tree.
const SHARED_SCOPE: u64 = u64::MAX;

/// How routes are found.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Patterns of the user; the first that fits wins.
    pub patterns: Vec<Pattern>,
    /// Whether templates are learned for paths that no pattern fits.
    pub learn: bool,
    /// Patterns of some processes, which come before the general ones; see [`Router::set_process`].
    pub sets: Vec<Vec<Pattern>>,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self { patterns: Vec::new(), learn: true, sets: Vec::new() }
    }
}

/// Where a route came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteSource {
    /// There is none.
    None,
    /// A pattern of the user.
    Pattern,
    /// Learned.
    Learned,
    /// The tree is full: [`OVERFLOW`].
    Overflow,
}

/// Finds routes.
#[derive(Debug)]
pub struct Router {
    patterns: Vec<Pattern>,
    learn: bool,
    sets: Vec<Vec<Pattern>>,
    /// Processes that have a set of their own.
    set_of: FxHashMap<u32, usize>,
    trees: FxHashMap<u64, Tree>,
    nodes_left: usize,
    overflows: u64,
}

impl Router {
    /// A router that has learned nothing yet.
    pub fn new(config: &RouteConfig) -> Self {
        Self {
            patterns: config.patterns.clone(),
            learn: config.learn,
            sets: config.sets.clone(),
            set_of: FxHashMap::default(),
            trees: FxHashMap::default(),
            nodes_left: MAX_NODES,
            overflows: 0,
        }
    }

    /// Other patterns from now on. What was learned stays; which process has which set is to be said anew.
    pub fn reconfigure(&mut self, config: &RouteConfig) {
        self.patterns.clone_from(&config.patterns);
        self.sets.clone_from(&config.sets);
        self.learn = config.learn;
        self.set_of.clear();
    }

    /// A process has a set of patterns of its own, or none any more.
    pub fn set_process(&mut self, tgid: u32, set: Option<usize>) {
        match set.filter(|&set| self.sets.get(set).is_some_and(|patterns| !patterns.is_empty())) {
            Some(set) if self.set_of.len() < MAX_PROCESSES || self.set_of.contains_key(&tgid) => {
                self.set_of.insert(tgid, set);
            }
            _ => drop(self.set_of.remove(&tgid)),
        }
    }

    /// Writes the route of a path that `tgid` served into `out`, empty if there is none. Paths of one `scope` (server)
    /// are learned together. The status says whether the path may teach: what the server did not find is no route.
    pub fn route(
        &mut self,
        (tgid, scope): (u32, u64),
        method: &str,
        path: &str,
        status_code: Option<u16>,
        out: &mut Text<ROUTE_MAX>,
    ) -> RouteSource {
        out.clear();
        let own = if self.set_of.is_empty() { None } else { self.set_of.get(&tgid) };
        let own = own.map(|&set| self.sets[set].as_slice()).unwrap_or_default();
        if let Some(pattern) = own.iter().chain(&self.patterns).find(|pattern| pattern.fits(method, path)) {
            out.push_clean(pattern.route());
            return RouteSource::Pattern;
        }
        if !self.learn {
            return RouteSource::None;
        }
        let full = self.trees.len() >= MAX_SCOPES && !self.trees.contains_key(&scope);
        let tree = self.trees.entry(if full { SHARED_SCOPE } else { scope }).or_default();
        match tree.find(path, teaches(status_code), &mut self.nodes_left) {
            Found::Route(route) => {
                out.push_clean(route);
                RouteSource::Learned
            }
            Found::Nothing => RouteSource::None,
            Found::Full => {
                self.overflows += 1;
                out.push_clean(OVERFLOW);
                RouteSource::Overflow
            }
        }
    }

    /// Requests that got [`OVERFLOW`] for a route.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Nodes of all trees.
    pub fn nodes(&self) -> usize {
        MAX_NODES - self.nodes_left
    }
}

/// Whether an answer shows that the server has a route for the path. Not found, method not allowed, URI too long,
/// misdirected, headers too large, not implemented: it has none, or did not look; no answer: nobody knows.
fn teaches(status_code: Option<u16>) -> bool {
    !matches!(status_code, None | Some(404 | 405 | 414 | 421 | 431 | 501))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn route(router: &mut Router, path: &str, status_code: u16) -> String {
        let mut out = Text::new();
        router.route((1, 1), "GET", path, Some(status_code), &mut out);
        out.as_str().to_owned()
    }

    #[test]
    fn patterns_go_first_and_the_first_of_them_wins() {
        let patterns = ["POST /users/*", "/users/me", "/users/{name}"].map(|text| text.parse().unwrap());
        let mut router = Router::new(&RouteConfig { patterns: patterns.to_vec(), ..RouteConfig::default() });
        assert_eq!(route(&mut router, "/users/me", 200), "/users/me");
        assert_eq!(route(&mut router, "/users/7", 404), "/users/{name}");
        assert_eq!(route(&mut router, "/orders/7", 200), "/orders/{id}");
        let mut out = Text::new();
        assert_eq!(router.route((1, 1), "POST", "/users/7", None, &mut out), RouteSource::Pattern);
        assert_eq!(out.as_str(), "/users/*");
    }

    #[test]
    fn a_process_may_have_patterns_of_its_own() {
        let patterns = |text: &str| vec![text.parse::<Pattern>().unwrap()];
        let sets = vec![Vec::new(), patterns("/users/me")];
        let config = RouteConfig { patterns: patterns("/users/{name}"), sets, ..RouteConfig::default() };
        let mut router = Router::new(&config);
        let check = |router: &mut Router, tgid, expected| {
            let mut out = Text::new();
            router.route((tgid, 1), "GET", "/users/me", Some(200), &mut out);
            assert_eq!(out.as_str(), expected);
        };
        router.set_process(7, Some(1));
        router.set_process(8, Some(0));
        router.set_process(9, Some(99));
        check(&mut router, 7, "/users/me");
        check(&mut router, 8, "/users/{name}");
        check(&mut router, 9, "/users/{name}");
        router.set_process(7, None);
        check(&mut router, 7, "/users/{name}");
        router.set_process(7, Some(1));
        router.reconfigure(&RouteConfig { patterns: patterns("/{x}/me"), ..RouteConfig::default() });
        check(&mut router, 7, "/{x}/me");
    }

    #[test]
    fn learning_can_be_off() {
        let mut router = Router::new(&RouteConfig { learn: false, ..RouteConfig::default() });
        assert_eq!(route(&mut router, "/users/7", 200), "");
        assert_eq!(router.nodes(), 0);
    }

    #[test]
    fn what_is_not_found_teaches_nothing() {
        let mut router = Router::new(&RouteConfig::default());
        assert_eq!(route(&mut router, "/wp-login.php", 404), "");
        assert_eq!(route(&mut router, "/users/7", 200), "/users/{id}");
        assert_eq!(route(&mut router, "/users/8", 404), "/users/{id}");
        assert_eq!(route(&mut router, "/users/bob", 404), "");
        let nodes = router.nodes();
        for n in 0..10_000 {
            route(&mut router, &format!("/probe-x{n}/y"), 404);
        }
        assert_eq!(router.nodes(), nodes);
    }

    #[test]
    fn scopes_learn_apart_and_are_bounded() {
        let mut router = Router::new(&RouteConfig::default());
        let mut out = Text::new();
        for scope in 0..10_000 {
            router.route((1, scope), "GET", "/a", Some(200), &mut out);
        }
        assert_eq!(router.trees.len(), MAX_SCOPES + 1);
        router.route((1, 0), "GET", "/b", Some(200), &mut out);
        assert_eq!(router.route((1, 1), "GET", "/b", Some(404), &mut out), RouteSource::None);
        assert_eq!(router.route((1, 0), "GET", "/b", Some(404), &mut out), RouteSource::Learned);
    }

    /// Sends random paths to `scopes` servers; returns the routes that came out.
    fn attack(router: &mut Router, scopes: u64) -> std::collections::HashSet<String> {
        let mut ids = crate::id::Ids::new([3, 4]);
        let mut seen = std::collections::HashSet::new();
        let mut out = Text::new();
        for n in 0..20_000 {
            let letters = ids.trace_id().map(|byte| char::from(b'g' + byte % 20));
            let path: String = letters.chunks(2).flat_map(|pair| ['/', pair[0], pair[1]]).collect();
            router.route((1, n % scopes), "GET", &path, Some(200), &mut out);
            seen.insert(out.as_str().to_owned());
        }
        seen
    }

    #[test]
    fn hostile_paths_are_collapsed() {
        let mut router = Router::new(&RouteConfig::default());
        let seen = attack(&mut router, 1);
        assert!(seen.contains(&"/{id}".repeat(8)) && seen.len() < 1000, "{}", seen.len());
        assert!(router.nodes() < 1000, "{}", router.nodes());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut router = Router::new(&RouteConfig::default());
        let seen = attack(&mut router, 50);
        assert!(router.nodes() <= MAX_NODES && seen.len() <= MAX_NODES, "{}", seen.len());
        assert!(router.overflows() > 0 && seen.contains(OVERFLOW));
    }

    proptest! {
        #[test]
        fn any_path_is_safe(paths in proptest::collection::vec("(/|[a-z0-9%@{};.-]|\\PC){0,40}", 1..60)) {
            let mut router = Router::new(&RouteConfig::default());
            for path in &paths {
                let first = route(&mut router, path, 200);
                prop_assert!(first.len() <= ROUTE_MAX);
                // What was learned last is known now, whatever the status.
                prop_assert_eq!(route(&mut router, path, 404), first);
            }
        }

        #[test]
        fn the_same_requests_teach_the_same_routes(paths in proptest::collection::vec("/[a-c]{1,2}(/[a-z0-9]{1,4}){0,2}", 1..200)) {
            let (mut one, mut two) = (Router::new(&RouteConfig::default()), Router::new(&RouteConfig::default()));
            for path in &paths {
                prop_assert_eq!(route(&mut one, path, 200), route(&mut two, path, 200));
            }
        }
    }
}
