//! Maps of which many versions are kept: this pass's and the last one's.

/// An ordered map whose copies share everything that they have in common.
///
/// A copy costs nothing, a change of one costs the path to what changed, and [`SharedMap::diff`] between two versions
/// skips what they share: its cost grows with what differs. For maps of thousands of entries of which one version
/// follows the other; a [`std::collections::BTreeMap`] is quicker for everything else.
///
/// Values that are large belong behind an `Arc`: what is the same object is equal without a look at it.
pub type SharedMap<K, V> = imbl::OrdMap<K, V>;

pub use imbl::ordmap::DiffItem;

/// Makes `map` hold exactly what `entries` hold, and says whether that changed anything. What is equal stays as it is, so that a
/// later [`SharedMap::diff`] skips it.
pub fn replace<K, V>(map: &mut SharedMap<K, V>, entries: &SharedMap<K, V>) -> bool
where
    K: Ord + Clone,
    V: PartialEq + Clone,
{
    let mut changed = false;
    let old = map.clone();
    for item in old.diff(entries) {
        changed = true;
        match item {
            DiffItem::Add(key, value) | DiffItem::Update { new: (key, value), .. } => {
                map.insert(key.clone(), value.clone());
            }
            DiffItem::Remove(key, _) => {
                map.remove(key);
            }
        }
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
        assert!(!replace(&mut map, &(0..1000).map(|key| (key, text(key))).collect()));
        assert!(before.iter().zip(map.iter()).all(|((_, one), (_, other))| Arc::ptr_eq(one, other)));

        let changed = (1..1001).map(|key| (key, text(if key == 500 { 7 } else { key }))).collect();
        assert!(replace(&mut map, &changed));
        let differs: Vec<u32> = before
            .diff(&map)
            .map(|item| match item {
                DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => *key,
            })
            .collect();
        assert_eq!(differs, [0, 500, 1000]);
        assert_eq!(map.get(&500), Some(&text(7)));
    }
}
