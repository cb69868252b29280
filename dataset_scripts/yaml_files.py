"""YAML that loses nothing: a key twice in one map is an error, of which YAML's own loader takes the last."""

from collections import Counter

import yaml


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{', '.join(twice)} twice in one map; leave one out", node.start_mark
            )
        return super().construct_mapping(node, deep)


def load_yaml(text: str):
    """
    The content of a YAML document.

    Raises:
        yaml.YAMLError: it is not YAML, or has a key twice in one map.
    """
    loader = _UniqueKeyLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
