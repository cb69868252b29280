"""YAML whose maps have each key once."""

import pytest
import yaml

from dataset_scripts.yaml_files import load_yaml

BASE = """
defaults: &defaults {a: 1, b: [x, {c: 2.5}]}
run:
  <<: *defaults
  a: 3
"""


def test_it_is_yaml():
    assert load_yaml(BASE) == yaml.safe_load(BASE)
    assert load_yaml(BASE)["run"] == {"a": 3, "b": ["x", {"c": 2.5}]}  # what a merge brings may be overridden
    assert load_yaml("") is None
    with pytest.raises(yaml.YAMLError):
        load_yaml("a: [")
    with pytest.raises(yaml.YAMLError):
        load_yaml("a: !!python/object/apply:os.getcwd []")


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 1\n", "x: {a: 1, a: 2}\n", "- {a: 1, 'a': 2}\n"])
def test_a_key_twice(text):
    with pytest.raises(yaml.YAMLError, match=r"(?s)a twice in one map; leave one out.*line \d"):
        load_yaml(text)
