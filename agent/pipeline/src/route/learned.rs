//! The tree of the routes of one server, learned from the paths that it answered.
//!
//! In: paths, and whether they may teach. Out: templates. A segment is first a literal or a placeholder by its
//! looks (`segment.rs`). A node with too many literal children collapses once and for ever: its children become
//! one `{id}`, with what is below them merged, but for the few that were asked for often. Depth, width and the
//! number of nodes are bounded; what finds no room is reported as [`Found::Full`].

use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::ROUTE_MAX;
use super::segment::{Class, classify};

/// Segments of a template; what follows is `*`.
const MAX_DEPTH: usize = 12;
/// Literal children before the root collapses.
const ROOT_WIDTH: usize = 128;
/// Literal children before any other node collapses.
const WIDTH: usize = 32;
/// Literals that a collapse spares: at most so many, the most frequent ones …
const SPARED: usize = 16;
/// … and only if they were asked for so often …
const SPARED_HITS: u64 = 16;
/// … and so many times as often as the average one.
const SPARED_RATIO: u64 = 8;
/// Nodes of one tree.
const MAX_TREE_NODES: usize = 2048;
/// Nodes that one tree ever makes; collapses give nodes back, but not for ever.
const MAX_TAUGHT: usize = 4 * MAX_TREE_NODES;

const ROOT: usize = 0;

/// Result of a look-up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// The template.
    Route(&'a str),
    /// Not known, and not to be learned.
    Nothing,
    /// No room to learn it.
    Full,
}

/// Routes of one server. Node 0 is the root; removed nodes are used again.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    taught: usize,
}

#[derive(Debug, Default)]
struct Node {
    segment: Box<str>,
    /// Template of the route that ends here.
    route: Option<Box<str>>,
    literals: Vec<Literal>,
    /// Children for [`PLACEHOLDERS`]; 0 is none.
    placeholders: [u32; PLACEHOLDERS.len()],
    hits: u32,
    collapsed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Literal {
    hash: u32,
    node: u32,
}

/// Kinds of children that are no literals; the last one is what is below [`MAX_DEPTH`].
const PLACEHOLDERS: [&str; 4] = ["{id}", "{date}", "{email}", "*"];
const ID: usize = 0;
const REST: usize = 3;

/// Where a segment leads.
enum Step {
    Literal,
    Placeholder(usize),
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new(), taught: 0 }
    }
}

impl Tree {
    /// Finds the template of a path; learns it first if it may. `nodes_left` is shared by all trees.
    pub(super) fn find(&mut self, path: &str, may_teach: bool, nodes_left: &mut usize) -> Found<'_> {
        let mut at = ROOT;
        for (depth, segment) in Segments(path).enumerate() {
            if depth == MAX_DEPTH {
                match self.child_or_new(at, segment, 0, Step::Placeholder(REST), may_teach, nodes_left) {
                    Ok(child) => at = child,
                    Err(found) => return found,
                }
                break;
            }
            let hash = hash(segment);
            if let Some(child) = self.literal(at, segment, hash) {
                at = child;
            } else {
                let step = match classify(segment) {
                    Class::Literal if self.nodes[at].collapsed => Step::Placeholder(ID),
                    Class::Literal => Step::Literal,
                    Class::Id => Step::Placeholder(ID),
                    Class::Date => Step::Placeholder(1),
                    Class::Email => Step::Placeholder(2),
                };
                match self.child_or_new(at, segment, hash, step, may_teach, nodes_left) {
                    Ok(child) => at = child,
                    Err(found) => return found,
                }
            }
            let node = &mut self.nodes[at];
            node.hits = node.hits.saturating_add(u32::from(may_teach));
        }
        if self.nodes[at].route.is_none() {
            if !may_teach {
                return Found::Nothing;
            }
            match self.template(path, at) {
                Some(template) => self.nodes[at].route = Some(template.into()),
                None => return Found::Full,
            }
        }
        match &self.nodes[at].route {
            Some(route) => Found::Route(route),
            None => Found::Nothing,
        }
    }

    #[inline]
    fn literal(&self, at: usize, segment: &str, hash: u32) -> Option<usize> {
        self.nodes[at]
            .literals
            .iter()
            .find(|child| child.hash == hash && *self.nodes[child.node as usize].segment == *segment)
            .map(|child| child.node as usize)
    }

    /// The child that a step leads to, made if it may be.
    fn child_or_new(
        &mut self,
        at: usize,
        segment: &str,
        hash: u32,
        step: Step,
        may_teach: bool,
        nodes_left: &mut usize,
    ) -> Result<usize, Found<'static>> {
        let mut kind = match step {
            Step::Literal => None,
            Step::Placeholder(kind) => Some(kind),
        };
        if kind.is_none() && may_teach && self.nodes[at].literals.len() >= self.width(at) {
            // One placeholder must fit, or nothing is gained.
            if self.nodes[at].placeholders[ID] == 0 && !self.has_room(*nodes_left) {
                return Err(Found::Full);
            }
            self.collapse(at, nodes_left);
            self.rewrite(at);
            kind = Some(ID);
        }
        if let Some(kind) = kind {
            let child = self.nodes[at].placeholders[kind];
            if child != 0 {
                return Ok(child as usize);
            }
        }
        if !may_teach {
            return Err(Found::Nothing);
        }
        if !self.has_room(*nodes_left) {
            return Err(Found::Full);
        }
        let child = self.add(kind.map_or(segment, |kind| PLACEHOLDERS[kind]), nodes_left);
        match kind {
            Some(kind) => self.nodes[at].placeholders[kind] = child,
            None => self.nodes[at].literals.push(Literal { hash, node: child }),
        }
        Ok(child as usize)
    }

    fn width(&self, at: usize) -> usize {
        if at == ROOT { ROOT_WIDTH } else { WIDTH }
    }

    fn has_room(&self, nodes_left: usize) -> bool {
        nodes_left > 0 && self.nodes.len() - self.free.len() < MAX_TREE_NODES && self.taught < MAX_TAUGHT
    }

    fn add(&mut self, segment: &str, nodes_left: &mut usize) -> u32 {
        *nodes_left -= 1;
        self.taught += 1;
        let node = Node { segment: segment.into(), ..Node::default() };
        match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                self.nodes.push(node);
                // At most MAX_TREE_NODES.
                (self.nodes.len() - 1) as u32
            }
        }
    }

    /// Makes one `{id}` of the literal children of a node, but for the most frequent ones.
    fn collapse(&mut self, at: usize, nodes_left: &mut usize) {
        let mut literals = std::mem::take(&mut self.nodes[at].literals);
        // A stable order, so that equal requests in equal order teach equal routes.
        literals.sort_by_key(|child| std::cmp::Reverse(self.nodes[child.node as usize].hits));
        let hits = |child: &Literal| u64::from(self.nodes[child.node as usize].hits);
        let total: u64 = literals.iter().map(hits).sum();
        let width = literals.len() as u64;
        let is_frequent = |&hits: &u64| hits >= SPARED_HITS && hits * width >= SPARED_RATIO * total;
        let frequent = literals.iter().map(hits).take_while(is_frequent).count();
        let merged = literals.split_off(frequent.min(SPARED));
        let node = &mut self.nodes[at];
        node.literals = literals;
        node.collapsed = true;
        for child in merged {
            self.merge_into_id(at, child.node, nodes_left);
        }
    }

    /// Makes a literal child part of the node's `{id}`, or its `{id}` if it has none.
    fn merge_into_id(&mut self, at: usize, child: u32, nodes_left: &mut usize) {
        match self.nodes[at].placeholders[ID] {
            0 => {
                self.nodes[at].placeholders[ID] = child;
                self.nodes[child as usize].segment = PLACEHOLDERS[ID].into();
            }
            id => self.merge(id as usize, child as usize, nodes_left),
        }
    }

    /// Merges one subtree into another and gives its nodes back. No deeper than [`MAX_DEPTH`].
    fn merge(&mut self, into: usize, from: usize, nodes_left: &mut usize) {
        let from_node = std::mem::take(&mut self.nodes[from]);
        self.free.push(from as u32);
        *nodes_left += 1;
        let target = &mut self.nodes[into];
        target.hits = target.hits.saturating_add(from_node.hits);
        let was_collapsed = target.collapsed;
        target.collapsed |= from_node.collapsed;
        if target.route.is_none() {
            target.route = from_node.route;
        }
        for child in from_node.literals {
            let same = self.nodes[into].literals.iter().copied().find(|known| {
                let (known, new) = (&self.nodes[known.node as usize], &self.nodes[child.node as usize]);
                known.segment == new.segment
            });
            match same {
                Some(known) => self.merge(known.node as usize, child.node as usize, nodes_left),
                None if was_collapsed => self.merge_into_id(into, child.node, nodes_left),
                None => self.nodes[into].literals.push(child),
            }
        }
        for (kind, child) in from_node.placeholders.into_iter().enumerate() {
            match self.nodes[into].placeholders[kind] {
                _ if child == 0 => {}
                0 => self.nodes[into].placeholders[kind] = child,
                known => self.merge(known as usize, child as usize, nodes_left),
            }
        }
        let node = &self.nodes[into];
        if node.literals.len() > WIDTH || node.collapsed && !was_collapsed {
            self.collapse(into, nodes_left);
        }
    }

    /// Writes the templates below a node anew after segments changed.
    fn rewrite(&mut self, at: usize) {
        let prefix = self.prefix(ROOT, at, &mut String::new()).unwrap_or_default();
        self.rewrite_below(at, &prefix);
    }

    fn rewrite_below(&mut self, at: usize, prefix: &str) {
        let literals = self.nodes[at].literals.iter().map(|child| child.node);
        let children: Vec<u32> =
            literals.chain(self.nodes[at].placeholders.into_iter().filter(|&child| child != 0)).collect();
        for child in children {
            let template = format!("{prefix}/{}", self.nodes[child as usize].segment);
            self.rewrite_below(child as usize, &template);
            if self.nodes[child as usize].route.is_some() {
                self.nodes[child as usize].route = Some(template.into());
            }
        }
    }

    /// The template that leads from `from` down to `to`. Only for learning: it looks at the whole tree.
    fn prefix(&self, from: usize, to: usize, so_far: &mut String) -> Option<String> {
        if from == to {
            return Some(so_far.clone());
        }
        let node = &self.nodes[from];
        let children = node.literals.iter().map(|child| child.node).chain(node.placeholders);
        for child in children.filter(|&child| child != 0) {
            let len = so_far.len();
            so_far.push('/');
            so_far.push_str(&self.nodes[child as usize].segment);
            if let Some(found) = self.prefix(child as usize, to, so_far) {
                return Some(found);
            }
            so_far.truncate(len);
        }
        None
    }

    /// The template of a new route, unless it is too long.
    fn template(&self, path: &str, at: usize) -> Option<String> {
        if at == ROOT {
            return Some("/".to_owned());
        }
        let mut template = String::new();
        let mut from = ROOT;
        for segment in Segments(path) {
            if from == at {
                break;
            }
            from = self.literal(from, segment, hash(segment)).or_else(|| {
                let class = classify(segment);
                let kind =
                    PLACEHOLDERS.iter().position(|name| Some(*name) == class.placeholder()).unwrap_or(ID);
                let node = &self.nodes[from];
                [node.placeholders[kind], node.placeholders[REST]]
                    .into_iter()
                    .find(|&child| child != 0)
                    .map(|child| child as usize)
            })?;
            template.push('/');
            template.push_str(&self.nodes[from].segment);
        }
        (template.len() <= ROUTE_MAX).then_some(template)
    }
}

/// The segments of a path that are not empty, without path parameters (`;jsessionid=…`).
struct Segments<'a>(&'a str);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        loop {
            let path = self.0.trim_start_matches('/');
            if path.is_empty() {
                return None;
            }
            let mut end = path.len();
            let mut cut = end;
            for (at, byte) in path.bytes().enumerate() {
                if byte == b'/' {
                    end = at;
                    break;
                }
                if byte == b';' && at < cut {
                    cut = at;
                }
            }
            self.0 = &path[end..];
            let segment = &path[..cut.min(end)];
            if !segment.is_empty() {
                return Some(segment);
            }
        }
    }
}

#[inline]
fn hash(segment: &str) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(segment.as_bytes());
    (hasher.finish() >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Routes(Tree, usize);

    impl Routes {
        fn new() -> Self {
            Self(Tree::default(), 8192)
        }

        fn get(&mut self, path: &str) -> String {
            format!("{:?}", self.0.find(path, true, &mut self.1)).replace("Route(\"", "").replace("\")", "")
        }

        /// Every node is reachable once or free, and the books close.
        fn check(&self) {
            let mut seen = vec![0; self.0.nodes.len()];
            let mut open = vec![ROOT as u32];
            while let Some(at) = open.pop() {
                seen[at as usize] += 1;
                let node = &self.0.nodes[at as usize];
                open.extend(node.literals.iter().map(|child| child.node));
                open.extend(node.placeholders.iter().filter(|&&child| child != 0));
            }
            for &free in &self.0.free {
                seen[free as usize] += 1;
            }
            assert!(seen.iter().all(|&count| count == 1));
            assert_eq!(self.1 + self.0.nodes.len() - 1 - self.0.free.len(), 8192);
        }
    }

    fn check(path: &str, expected: &str) {
        assert_eq!(Routes::new().get(path), expected, "{path}");
    }

    #[test]
    fn looks_alone_give_templates() {
        check("/", "/");
        check("", "/");
        check("//", "/");
        check("/users", "/users");
        check("/users/", "/users");
        check("/users/7", "/users/{id}");
        check("/users/7/posts/2024-01-31", "/users/{id}/posts/{date}");
        check("/by-mail/a@b.example/x", "/by-mail/{email}/x");
        check("/app;jsessionid=1A2B/x;y", "/app/x");
        check("/a/b/c/d/e/f/g/h/i/j/k/l", "/a/b/c/d/e/f/g/h/i/j/k/l");
        check("/a/b/c/d/e/f/g/h/i/j/k/l/m/n", "/a/b/c/d/e/f/g/h/i/j/k/l/*");
        check(&format!("/{0}/{0}/{0}/{0}/{0}", "x".repeat(60)), "Full");
    }

    #[test]
    fn many_words_become_one_placeholder() {
        let mut routes = Routes::new();
        let name =
            |n: usize| format!("{}{}", char::from(b'a' + (n / 26) as u8), char::from(b'a' + (n % 26) as u8));
        for _ in 0..SPARED_HITS {
            assert_eq!(routes.get("/u/search/posts"), "/u/search/posts");
        }
        for n in 0..WIDTH - 1 {
            assert_eq!(routes.get(&format!("/u/{}/posts", name(n))), format!("/u/{}/posts", name(n)));
        }
        assert_eq!(routes.get("/u/zz/likes"), "/u/{id}/likes");
        assert_eq!(routes.get("/u/aa/posts"), "/u/{id}/posts");
        assert_eq!(routes.get("/u/7/posts"), "/u/{id}/posts");
        assert_eq!(routes.get("/u/search/posts"), "/u/search/posts");
        assert_eq!(routes.0.find("/u/never-seen/posts", false, &mut 0), Found::Route("/u/{id}/posts"));
        routes.check();
    }

    #[test]
    fn a_collapse_merges_what_is_below() {
        let mut routes = Routes::new();
        let word =
            |n: usize| format!("{}{}", char::from(b'a' + (n / 26) as u8), char::from(b'a' + (n % 26) as u8));
        for n in 0..WIDTH + 1 {
            routes.get(&format!("/t/{}/{}/settings", word(n), word(n)));
            routes.get(&format!("/t/{}/home", word(n)));
        }
        routes.check();
        assert_eq!(routes.get("/t/xx/home"), "/t/{id}/home");
        assert_eq!(routes.get("/t/xx/yy/settings"), "/t/{id}/{id}/settings");
        routes.check();
    }

    #[test]
    fn collapsing_frees_nodes() {
        let mut routes = Routes::new();
        let mut ids = crate::id::Ids::new([1, 1]);
        for _ in 0..5000 {
            let letters = ids.span_id().map(|byte| char::from(b'g' + byte % 20));
            let words: Vec<String> = letters.chunks(2).map(|pair| pair.iter().collect()).collect();
            routes.get(&format!("/{}", words[..3].join("/")));
        }
        routes.check();
        assert_eq!(routes.get("/zz/yy/xx"), "/{id}/{id}/{id}");
        assert!(routes.0.nodes.len() - routes.0.free.len() < 100, "{}", routes.0.nodes.len());
    }
}
