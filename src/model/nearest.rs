//! What somebody most likely meant who wrote a name that does not exist.

/// The name out of `names` that somebody who wrote `wrong` most likely meant.
pub fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // Two mistakes in a long word, one in a short one; case and the choice between `-` and `_` count for nothing.
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wrong = plain(wrong);
    names
        .into_iter()
        .map(|name| (distance(&wrong, &plain(name)), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(4).min(3))
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be put in, taken out, replaced or swapped to get from one text to the other.
pub fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // Longer texts are no slip of the finger, and the table grows with the product of both.
    let from: Vec<char> = from.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut next = vec![i];
        for j in 1..=to.len() {
            let replaced = row[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_find_the_name_that_was_meant() {
        let names = ["uuid", "image", "environment", "deploy", "networks", "replicas"];
        for (wrong, right) in [
            ("enviroment", Some("environment")),
            ("Image", Some("image")),
            ("replcias", Some("replicas")),
            ("network", Some("networks")),
            ("uid", Some("uuid")),
            ("volumes", None),
            ("zz_extra", None),
        ] {
            assert_eq!(nearest(wrong, names), right, "{wrong}");
        }
    }
}
