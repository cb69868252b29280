import os

import numpy as np
from matplotlib import get_backend
from PIL import Image

from ser_protocol.figures import confusion_figure, curves_figure, write_plots


def test_plots_show_something(tmp_path, predictions, fold_metrics):
    backend = get_backend(auto_select=False)
    paths = write_plots(predictions, fold_metrics, tmp_path / "plots")
    assert get_backend(auto_select=False) == backend
    assert [path.name for path in paths] == ["confusion_matrix.png", "speakers.png", "learning_curves.png"]
    assert sorted(os.listdir(tmp_path / "plots")) == sorted(path.name for path in paths)
    # 3 emotions: 2.5 + 3 * 0.75 inches high, an inch wider; 3 speakers: 1.6 + 3 * 0.36; one band of two folds
    for path, size in zip(paths, [(575, 475), (800, 268), (620, 500)]):
        image = np.asarray(Image.open(path).convert("RGB"))
        assert image.shape == (size[1], size[0], 3)
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert len(write_plots(predictions, [{"fold": 0}], tmp_path)) == 2


def test_learning_curves_hold_the_history(fold_metrics):
    figure = curves_figure({f: fold_metrics[0] | {"fold": f} for f in range(5)})  # two bands, the second not full
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 10
    loss, recall = shown[0], [axes for axes in shown if axes.get_ylabel() == "UA (0 to 1)"][0]
    lines = {line.get_label(): line.get_ydata() for line in loss.get_lines()}
    np.testing.assert_allclose(lines["training loss"], [2, 1, 2 / 3, 0.5, 0.4])
    np.testing.assert_allclose(lines["validation loss"], [2, 1.5, 4 / 3, 1.25, 1.2])
    np.testing.assert_allclose(recall.get_lines()[0].get_ydata(), np.arange(1, 6) / 9)
    assert loss.get_lines()[-1].get_xdata() == [4, 4]  # the epoch kept


def test_confusion_plot_is_normalised_by_row(predictions):
    axes = confusion_figure(predictions).axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0, 0, 0], [0, 2 / 3, 1 / 3], [1 / 3, 0, 2 / 3]])
    assert [text.get_text() for text in axes.texts][4:6] == ["67%\n2", "33%\n1"]
