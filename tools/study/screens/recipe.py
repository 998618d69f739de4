"""The recipe of a screen, its loss, and its training step.

The base is `mgta_tf.train --labels=none --decoder=none`: batch-hard triplets of two views of an
image. Each recipe changes one thing.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from mgta_tf.data.pipeline import AugmentConfig, augment, normalize
from mgta_tf.models.encoder import ModelConfig, build_encoder
from mgta_tf.training.optimization import OptimizerConfig, build_optimizer
from tools.study.evaluation import MEDIUM, MILD, SMALL

keras = tf.keras

FAR = 1e9  # a distance that no pair has
RANKS = (2, 10)  # of the negatives whose distances are averaged by `negative="ranks"`
TEMPERATURE = 0.1  # of the softmax losses, and of the softplus
CROPS = {
    "mild": MILD,
    "medium": MEDIUM,
    "strong": {"crop_min_area": 0.2, "color_jitter": 0.4, "grayscale": 0.2},
}
MOMENTUM = 0.99  # of the teacher that is a moving average
HIDDEN, PROJECTED = 512, 128  # units of the projector


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A recipe of a screen; docs/results/screens/plan.json has all that were tried."""

    passes: float = 24.0  # image passes per photograph, including those of teacher and labels
    images: int = 32  # of a batch
    views: int = 2  # of an image
    learning_rate: float = 3e-3
    crops: str = "mild"  # a name of CROPS
    loss: str = "triplet"  # or "softmax": NT-Xent
    negative: str = "hardest"  # or "ranks": the mean distance of the negatives of RANKS
    margin: float = 0.3  # of the hinge; 0: a softplus, which never saturates
    also: tuple[str, ...] = ()  # other endpoints whose pooled features get the views' loss, too
    head: str = "none"  # or "projector": two dense layers that the evaluation ignores
    teacher: str = "none"  # or "average": the net's moving average; "peer": a second net
    # or "oracle"; "clusters"; "pairs": mutual nearest neighbors; "free": clusters of another net,
    # which has matched two views for 72 passes that are not counted; "agree": images that are in
    # one cluster of that net and in one of this net
    labels: str = "none"
    purity: float = 1.0  # probability that two images of one oracle label are of one class
    label_from: float = 0.33  # share of the run after which labels are used
    labellings: int = 2  # of "clusters", "pairs" and "agree"; others are made once
    num_clusters: int = 100
    label_views: int = 1  # views whose features are averaged before clustering
    whiten: bool = False  # PCA-whitened features for the labels
    # Of labels: a second positive; "supcon"; "classes": a softmax; or "meet": images of a label
    # share a batch, as negatives of each other, which makes them hard ones.
    use: str = "triplet"
    mates: int = 2  # images of a label in a batch, unless `use` is "classes"
    weight: float = 0.5  # of the labels' loss

    def step_cost(self) -> float:
        """Image passes of one step; a forward alone is a third of one."""
        of_image = {"none": 1.0, "average": 4 / 3, "peer": 2.0}[self.teacher]
        return of_image * self.images * self.views

    def labelling_cost(self, num_images: int) -> float:
        """Image passes of one labelling; oracle labels and free ones cost nothing."""
        return self.label_views * num_images / 3 if self.makes_labels else 0.0

    @property
    def makes_labels(self) -> bool:
        """Whether labels come from the net in training."""
        return self.labels in ("clusters", "pairs", "agree")


class Net:
    """An encoder, the heads that a recipe needs, and their optimizer."""

    def __init__(self, recipe: Recipe, num_labels: int, seed: int):
        keras.utils.set_random_seed(seed)
        self.encoder = build_encoder(ModelConfig(SMALL["width"], tuple(SMALL["blocks"])))
        embedding = self.encoder.output["embedding"]
        outputs = {"z": projector(embedding) if recipe.head == "projector" else embedding}
        outputs["target"] = outputs["z"]
        if recipe.teacher == "average":  # BYOL's predictor; without it the two nets collapse
            outputs["z"] = projector(outputs["z"], outputs["z"].shape[-1])
        for endpoint in recipe.also:
            pooled = keras.layers.GlobalAveragePooling2D()(self.encoder.output[endpoint])
            outputs[endpoint] = pooled
        if recipe.labels != "none" and recipe.use == "classes":
            outputs["logits"] = keras.layers.Dense(num_labels)(embedding)
        self.model = keras.Model(self.encoder.input, outputs)
        rate = OptimizerConfig(learning_rate=recipe.learning_rate)
        self.optimizer = build_optimizer(rate, self.model)


def projector(features, units: int = PROJECTED):
    """Two dense layers with batch norm between them: [N, D] → [N, units]."""
    hidden = keras.layers.Dense(HIDDEN, use_bias=False)(features)
    hidden = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(hidden)
    return keras.layers.Dense(units)(keras.layers.ReLU()(hidden))


class Trainer:
    """Trains one net, or two that guide each other, by a recipe."""

    def __init__(self, recipe: Recipe, num_labels: int, seed: int):
        self.recipe = recipe
        self.nets = [Net(recipe, num_labels, seed)]
        if recipe.teacher == "peer":
            self.nets.append(Net(recipe, num_labels, seed + 1000))
        self._augment = AugmentConfig(SMALL["image_size"], **CROPS[recipe.crops])
        if recipe.teacher == "average":
            self._average = Net(recipe, num_labels, seed).model
        self.step = tf.function(self._step)

    def set_learning_rate(self, rate: float) -> None:
        for net in self.nets:
            net.optimizer.learning_rate.assign(rate)

    def _step(self, pixels, images, labels, uniforms, weight):
        """One step.

        Args:
          pixels: uint8 [N, S, S, 3], the views of an image in a row.
          images: int32 [N], the number of each view's image.
          labels: int32 [N], -1 where an image has none.
          uniforms: float32 [N, UNIFORMS].
          weight: float32 [], of the labels' loss.

        Returns:
          The loss of the first net, [].
        """
        seen = normalize(augment(pixels, uniforms, self._augment)[0], "unit")
        target = self._average(seen, training=True)["target"] if self._has_average else None
        with tf.GradientTape(persistent=True) as tape:
            outputs = [net.model(seen, training=True) for net in self.nets]
            targets = [target] if target is not None else [o["target"] for o in reversed(outputs)]
            losses = [
                loss_of(self.recipe, o, tf.stop_gradient(t), images, labels, weight)
                for o, t in zip(outputs, targets)
            ]
        for net, loss in zip(self.nets, losses):
            variables = net.model.trainable_variables
            net.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        if self._has_average:
            for slow, fast in zip(self._average.variables, self.nets[0].model.variables):
                slow.assign(MOMENTUM * slow + (1 - MOMENTUM) * fast)
        return losses[0]

    @property
    def _has_average(self) -> bool:
        return self.recipe.teacher == "average"


def loss_of(recipe: Recipe, outputs, target, images, labels, weight):
    """The loss of a batch: two views, then the teacher's features, then labels.

    Args:
      outputs: a net's `z` [N, D] and, where labels are classes, `logits` [N, C].
      target: [N, D], the teacher's embeddings of the same views.
      images, labels: int32 [N].
      weight: of the labels' loss; at 0, images of the same label count as negatives.
    """
    z = tf.math.l2_normalize(tf.cast(outputs["z"], tf.float32), axis=1)
    same, mates = pairs(images, labels)
    mates &= weight > 0
    itself = tf.eye(tf.shape(z)[0], dtype=tf.bool)
    negatives = ~(itself | same) if recipe.use == "meet" else ~(itself | same | mates)
    if recipe.teacher == "none":
        loss = contrast(recipe, z, z, same, negatives)
    else:
        target = tf.math.l2_normalize(tf.cast(target, tf.float32), axis=1)
        loss = contrast(recipe, z, target, same, negatives)
        if recipe.teacher == "peer":
            loss += contrast(recipe, z, z, same, negatives)
    for endpoint in recipe.also:
        pooled = tf.math.l2_normalize(tf.cast(outputs[endpoint], tf.float32), axis=1)
        loss += contrast(recipe, pooled, pooled, same, negatives)
    if recipe.labels == "none" or recipe.use == "meet":
        return loss
    if recipe.use == "classes":
        errors = tf.nn.sparse_softmax_cross_entropy_with_logits(
            tf.maximum(labels, 0), outputs["logits"]
        )
        return loss + weight * tf.reduce_mean(tf.where(labels >= 0, errors, 0.0))
    if recipe.use == "supcon":  # an anchor's own view is a positive, too; anchors have a mate
        positives = (same | mates) & tf.reduce_any(mates, axis=1, keepdims=True)
        return loss + weight * mean_log_likelihood(z, positives, ~itself)
    return loss + weight * contrast(recipe, z, z, mates, negatives)


def pairs(images, labels):
    """(views of the same image, other images of the same label), bool [N, N], diagonal False."""
    same = (images[:, None] == images[None]) & ~tf.eye(tf.shape(images)[0], dtype=tf.bool)
    known = (labels[:, None] >= 0) & (labels[None] >= 0)
    return same, known & (labels[:, None] == labels[None]) & (images[:, None] != images[None])


def contrast(recipe: Recipe, anchors, others, positives, negatives):
    """Triplet or softmax loss of anchors [N, D] against others [M, D].

    Anchors without a positive do not count.
    """
    if recipe.loss == "softmax":
        return mean_log_likelihood(anchors, positives, positives | negatives, others)
    squared = tf.maximum(2 - 2 * tf.matmul(anchors, others, transpose_b=True), 1e-12)
    distances = tf.sqrt(squared)
    near = tf.reduce_min(tf.where(positives, distances, FAR), axis=1)
    refused = tf.where(negatives, distances, FAR)
    if recipe.negative == "hardest":
        far = tf.reduce_min(refused, axis=1)
    else:
        first, last = RANKS
        far = -tf.reduce_mean(tf.math.top_k(-refused, last).values[:, first - 1 :], axis=1)
    counts = tf.reduce_any(positives, axis=1)
    difference = tf.where(counts, near - far, 0.0)
    if not recipe.margin:
        losses = tf.nn.softplus(difference / TEMPERATURE)
    else:
        losses = tf.nn.relu(difference + recipe.margin)
    return _mean_where(losses, counts)


def mean_log_likelihood(anchors, positives, candidates, others=None):
    """SupCon (Khosla et al., 2020): the mean over an anchor's positives of −log softmax."""
    others = anchors if others is None else others
    logits = tf.matmul(anchors, others, transpose_b=True) / TEMPERATURE
    logits -= tf.reduce_logsumexp(tf.where(candidates, logits, -FAR), axis=1, keepdims=True)
    number = tf.reduce_sum(tf.cast(positives, tf.float32), axis=1)
    sums = -tf.reduce_sum(tf.where(positives, logits, 0.0), axis=1)
    return _mean_where(sums / tf.maximum(number, 1.0), number > 0)


def _mean_where(values, counts):
    weights = tf.cast(counts, tf.float32)
    return tf.reduce_sum(values * weights) / tf.maximum(tf.reduce_sum(weights), 1.0)
