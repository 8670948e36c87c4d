"""A trainer of one's own: scikit-learn classifiers on data sets that come with it."""

from typing import Literal

from pydantic import BaseModel, Field
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from l2t_ray import Context


class Settings(BaseModel):
    """What the sweep file may say below `settings:`."""

    data: Literal["wine", "breast_cancer"] = "wine"
    model: Literal["logistic", "svm", "forest"]
    n_samples: int = Field(gt=5)
    c: float = Field(1.0, gt=0)


def train(settings: Settings, seed: int, context: Context) -> dict[str, float]:
    """Fits a classifier on a random part of the data; the rest is the test set."""
    images, labels = getattr(datasets, f"load_{settings.data}")(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, train_size=settings.n_samples, stratify=labels, random_state=seed
    )
    model = {
        "logistic": LogisticRegression(C=settings.c),
        "svm": SVC(C=settings.c),
        "forest": RandomForestClassifier(30, random_state=seed, n_jobs=context.threads),
    }[settings.model]
    fitted = make_pipeline(StandardScaler(), model).fit(train_x, train_y)
    return {
        "error_percent": 100 * (1 - fitted.score(test_x, test_y)),
        "train_error_percent": 100 * (1 - fitted.score(train_x, train_y)),
    }
