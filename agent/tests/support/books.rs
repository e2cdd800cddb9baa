//! The agent's own books, as it prints them at the end: what was seen, what became spans, what was dropped and why.
//!
//! In: its stderr, and how many spans it printed. Out: sentences about what does not add up.

/// What does not close. `complete`: the test found every span that it was waiting for, so nothing may be lost.
pub fn faults(stderr: &str, printed: usize, complete: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let line = |part: &str| stderr.lines().rev().find(|line| line.contains(part)).unwrap_or("");
    let (stats, books) = (line("stats after"), line("books: "));
    let [turns, seen, skipped, lost, ..] =
        numbers(books.split_once("books: ").map_or("", |(_, rest)| rest))[..]
    else {
        return vec![format!("stderr holds no books that can be read: {books:?}")];
    };
    if turns != seen + skipped + lost {
        faults.push(format!("{turns} turns in the kernel, but {seen} + {skipped} + {lost} accounted for"));
    }
    if complete && lost > 0 {
        faults.push(format!("{lost} turns lost"));
    }
    let printed = printed as u64;
    for what in ["spans", "written"] {
        match number_after(stats, what) {
            Some(count) if count == printed => {}
            other => faults.push(format!("the books say {what} {other:?}, printed were {printed}")),
        }
    }
    faults
}

/// The number that follows a word.
fn number_after(line: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> = line.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    words.windows(2).find(|pair| pair[0] == word).and_then(|pair| pair[1].parse().ok())
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
}
