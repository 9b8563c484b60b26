"""scikit-learn's tables in the units of their features, as files and models for `cert`."""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x, y = load_diabetes(return_X_y=True, scaled=False)  # years, mmHg, mg/dl, ...
forest = RandomForestRegressor(20, max_depth=5, random_state=0).fit(x[:350], y[:350])

rows, labels = load_breast_cancer(return_X_y=True)  # from 0.005 to 4000
tumours = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[:400], labels[:400])


def progression(batch):
    return forest.predict(batch)


def benign(batch):
    return tumours.predict(batch)


if __name__ == "__main__":
    np.savez("diabetes.npz", x=x[350:390], y=y[350:390])
    np.savez("cancer.npz", x=rows[400:480], y=labels[400:480])
