"""All weights of a decoder, layer by layer, and what each layer keeps of a sequence."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rackhand.models import attention, feedforward, plan, state
from rackhand.models.attention import Heads
from rackhand.models.families import Family
from rackhand.models.feedforward import Mixture
from rackhand.models.matrices import Matrix
from rackhand.models.plan import Layer, Mixer
from rackhand.models.reading import LAYERS, MOST_LAYERS, Reader
from rackhand.models.spec import LayerGroup


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """A decoder as read from one level of config.json."""

    text: Reader
    family: Family
    kind: str
    heads: Heads
    width: int
    vocabulary: int
    tied: bool
    mixture: Mixture | None
    layers: list[Layer]
    element_bytes: int

    def matrices(self) -> Iterator[Matrix]:
        """Yield every weight."""
        hidden, doubled = self.heads.hidden, 2 if self.family.norm_bias else 1
        yield Matrix("embeddings", "model.embed_tokens", self.vocabulary, hidden)
        if self.family.positions is not None:
            rows = self.text.size("max_position_embeddings", "n_positions") + self.family.positions
            yield Matrix("embeddings-of-positions", "model.embed_positions", rows, hidden)
        for layer in self.layers:
            yield from self._layer(layer, f"model.layers.{layer.number}")
        yield Matrix("final-norm", "model.norm", hidden * doubled)
        if not self.tied:
            yield Matrix("lm_head", "lm_head", self.vocabulary, hidden)
        if attention.says(self.text, self.family.lm_head_bias):
            yield Matrix("lm_head", "lm_head.bias", self.vocabulary)
        if self._per_layer:
            yield from self._inputs_per_layer()

    def groups(self) -> Iterator[LayerGroup]:
        """Yield what each layer keeps; Gemma 4's last layers read the cache of earlier ones."""
        for layer in self.layers[: len(self.layers) - self._sharing]:
            if layer.mixer is Mixer.ATTENTION:
                yield attention.group(attention.in_layer(self.heads, self.text, layer))
            elif layer.mixer is Mixer.LATENT:
                yield from attention.latent_groups(attention.latent(self.text))
            elif layer.mixer is not Mixer.NONE:
                yield state.group(self.text, layer.mixer, self.element_bytes)

    @property
    def _sharing(self) -> int:
        return min(self.text.count("num_kv_shared_layers"), len(self.layers) - 1)

    @property
    def _per_layer(self) -> int:
        return self.text.count("hidden_size_per_layer_input")

    def _layer(self, layer: Layer, prefix: str) -> Iterator[Matrix]:
        yield Matrix("norms", f"{prefix}.norms", self._norms() * self.heads.hidden)
        if layer.mixer is Mixer.ATTENTION:
            borrowed = layer.number >= len(self.layers) - self._sharing
            shape = replace(attention.in_layer(self.heads, self.text, layer), borrowed=borrowed)
            yield from attention.grouped(shape, self.family, self.text, f"{prefix}.self_attn")
        elif layer.mixer is Mixer.LATENT:
            yield from attention.compressed(attention.latent(self.text), f"{prefix}.self_attn")
        elif layer.mixer is not Mixer.NONE:
            yield from state.matrices(self.text, layer.mixer, f"{prefix}.mixer")
        yield from self._behind(layer, prefix)
        if self.kind == "gemma4_text":
            yield from self._gemma4(layer, prefix)

    def _norms(self) -> int:
        """Return a layer's norm weights over the hidden size; Falcon's number depends on its variant."""
        count = self.family.norms
        if self.kind == "falcon":
            newer = self.text.flag("new_decoder_architecture")
            count = self.text.size("num_ln_in_parallel_attn", default=2) if newer else 2
            count = 1 if not newer and self.text.flag("parallel_attn", default=True) else count
        return count * (2 if self.family.norm_bias else 1)

    def _behind(self, layer: Layer, prefix: str) -> Iterator[Matrix]:
        hidden = self.heads.hidden
        if layer.sparse and self.mixture:
            yield from feedforward.sparse(self.mixture, self.text, self.family, hidden, f"{prefix}.mlp")
        if layer.dense:
            wide = self.text.flag("use_double_wide_mlp") and layer.number >= len(self.layers) - self._sharing
            width = self.width * (2 if wide else 1)
            yield from feedforward.dense(self.text, self.family, hidden, width, f"{prefix}.mlp")

    def _gemma4(self, layer: Layer, prefix: str) -> Iterator[Matrix]:
        hidden = self.heads.hidden
        yield Matrix("norms", f"{prefix}.layer_scalar", 1)
        if layer.sparse and self.mixture:
            yield Matrix("norms", f"{prefix}.moe_norms", 3 * hidden)
            yield Matrix("router", f"{prefix}.router.scales", hidden + self.mixture.experts.count)
        if size := self._per_layer:
            yield Matrix("latent", f"{prefix}.per_layer_input_gate", size, hidden)
            yield Matrix("latent", f"{prefix}.per_layer_projection", hidden, size)
            yield Matrix("norms", f"{prefix}.post_per_layer_input_norm", hidden)

    def _inputs_per_layer(self) -> Iterator[Matrix]:
        total = self._per_layer * len(self.layers)
        rows = self.text.size("vocab_size_per_layer_input", default=self.vocabulary)
        yield Matrix("embeddings-per-layer", "model.embed_tokens_per_layer", rows, total)
        yield Matrix("attention", "model.per_layer_model_projection", total, self.heads.hidden)
        yield Matrix("norms", "model.per_layer_projection_norm", self._per_layer)


def read(text: Reader, family: Family, *, tied: bool, element_bytes: int) -> Decoder:
    """Read a decoder; raises RackhandError."""
    kind = text.text("model_type")
    heads = attention.heads(text)
    count = len(plan.letters(text, kind)) or text.size(*LAYERS, most=MOST_LAYERS)
    enabled = kind != "gemma4_text" or text.flag("enable_moe_block")
    mixture = feedforward.mixture(text, count) if enabled else None
    return Decoder(
        text=text,
        family=family,
        kind=kind,
        heads=heads,
        width=_width(text, kind, heads.hidden, mixture),
        vocabulary=text.size("vocab_size"),
        tied=tied,
        mixture=mixture,
        layers=plan.layers(text, family, mixture.on if mixture else frozenset(), kind),
        element_bytes=element_bytes,
    )


def _width(text: Reader, kind: str, hidden: int, mixture: Mixture | None) -> int:
    """Return the width of a dense layer's perceptron."""
    if kind == "falcon":
        return text.size("ffn_hidden_size", default=4 * hidden)
    if kind == "granitemoehybrid" and not mixture:
        return text.size("shared_intermediate_size", "intermediate_size")
    widest = mixture.experts.intermediate_size if mixture else 4 * hidden if kind == "gpt2" else None
    mlp = "intermediate_size_mlp" if "intermediate_size_mlp" in text else "intermediate_size"
    return text.size(mlp, "ffn_dim", "n_inner", default=widest)
