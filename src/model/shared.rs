//! Maps of which many versions are kept: this pass's and the last one's.

use imbl::ordmap::DiffItem;

/// An ordered map whose copies share everything that they have in common.
///
/// A copy costs nothing, a change of one costs the path to what changed, and [`SharedMap::diff`] between two versions
/// skips what they share: its cost grows with what differs. For maps of thousands of entries of which one version
/// follows the other; a [`std::collections::BTreeMap`] is quicker for everything else.
///
/// Values that are large belong behind an `Arc`: what is the same object is equal without a look at it.
pub type SharedMap<K, V> = imbl::OrdMap<K, V>;

/// The key of a difference, and the value on both sides.
pub fn parts<'a, K, V>(item: DiffItem<'a, 'a, K, V>) -> (&'a K, Option<&'a V>, Option<&'a V>) {
    match item {
        DiffItem::Add(key, new) => (key, None, Some(new)),
        DiffItem::Update { old: (_, old), new: (key, new) } => (key, Some(old), Some(new)),
        DiffItem::Remove(key, old) => (key, Some(old), None),
    }
}

/// The key of a difference.
pub fn key<'a, K, V>(item: DiffItem<'a, 'a, K, V>) -> &'a K {
    parts(item).0
}

/// Makes `map` hold exactly what `entries` hold, and says which keys that changed. What is equal stays as it is, so that
/// a later [`SharedMap::diff`] skips it.
pub fn replace<K, V>(map: &mut SharedMap<K, V>, entries: &SharedMap<K, V>) -> Vec<K>
where
    K: Ord + Clone,
    V: PartialEq + Clone,
{
    let old = map.clone();
    let mut changed = Vec::new();
    for item in old.diff(entries) {
        let (key, _, new) = parts(item);
        match new {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
        changed.push(key.clone());
    }
    changed
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn replacing_keeps_what_is_equal() {
        let text = |value: u32| Arc::new(value.to_string());
        let mut map: SharedMap<u32, Arc<String>> = (0..1000).map(|key| (key, text(key))).collect();
        let before = map.clone();
        assert!(replace(&mut map, &(0..1000).map(|key| (key, text(key))).collect()).is_empty());
        assert!(before.iter().zip(map.iter()).all(|((_, one), (_, other))| Arc::ptr_eq(one, other)));

        let changed = (1..1001).map(|key| (key, text(if key == 500 { 7 } else { key }))).collect();
        assert_eq!(replace(&mut map, &changed), [0, 500, 1000]);
        let differs: Vec<u32> = before.diff(&map).map(|item| *key(item)).collect();
        assert_eq!(differs, [0, 500, 1000]);
        assert_eq!(map.get(&500), Some(&text(7)));
    }
}
