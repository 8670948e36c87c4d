"""A script that knows nothing of l2t-ray: ridge regression by gradient descent, its results in a JSON file."""

import argparse
import json
import pathlib
import random


def main() -> None:
    """Reads the command line, trains, prints, and writes results.json into the working folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--optimizer", choices=["sgd", "momentum"], default="sgd")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    truth = [draw.gauss(0, 1) for _ in range(5)]
    points = [[draw.gauss(0, 1) for _ in truth] for _ in range(200)]
    targets = [sum(a * b for a, b in zip(truth, x, strict=True)) + draw.gauss(0, 0.5) for x in points]
    theta, speed = [0.0] * len(truth), [0.0] * len(truth)
    momentum = 0.9 if arguments.optimizer == "momentum" else 0.0
    for step in range(300):
        place = draw.randrange(100)
        x, y = points[place], targets[place]
        residual = sum(a * b for a, b in zip(theta, x, strict=True)) - y
        speed = [momentum * v + residual * a for v, a in zip(speed, x, strict=True)]
        theta = [t - arguments.lr * v for t, v in zip(theta, speed, strict=True)]
        if step % 100 == 99:
            print(f"step {step + 1}: residual {residual:.3f}")
    errors = [
        sum(a * b for a, b in zip(theta, x, strict=True)) - y for x, y in zip(points[100:], targets[100:], strict=True)
    ]
    rmse = (sum(error**2 for error in errors) / len(errors)) ** 0.5
    with pathlib.Path("results.json").open("w") as file:
        json.dump({"rmse": rmse, "optimizer": arguments.optimizer}, file)


if __name__ == "__main__":
    main()
