"""Parameters under internal names, and their differentiable maps to the names and layouts of the reference models."""
import torch


def parameter_shapes(config):
    """Internal name -> shape, in the order of the model."""
    hidden, head_dim = config.hidden_size, config.head_dim
    query, key = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    gate_rows = {"none": 0, "headwise": config.num_attention_heads, "elementwise": query}[config.gate]
    shapes = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = (hidden,)
        shapes[prefix + "self_attn.q_proj.weight"] = (query, hidden)
        shapes[prefix + "self_attn.k_proj.weight"] = (key, hidden)
        shapes[prefix + "self_attn.v_proj.weight"] = (key, hidden)
        shapes[prefix + "self_attn.o_proj.weight"] = (hidden, query)
        shapes[prefix + "self_attn.q_norm.weight"] = (head_dim,)
        shapes[prefix + "self_attn.k_norm.weight"] = (head_dim,)
        if gate_rows:
            shapes[prefix + "self_attn.gates.g1.weight"] = (gate_rows, hidden)
        shapes[prefix + "post_attention_layernorm.weight"] = (hidden,)
        shapes |= feed_forward_shapes(config, prefix + "mlp.")
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def feed_forward_shapes(config, prefix):
    hidden, width = config.hidden_size, config.intermediate_size
    if not config.moe:
        return {prefix + "gate_up_proj.weight": (2 * width, hidden), prefix + "down_proj.weight": (hidden, width)}
    experts, width = config.moe.num_experts, config.moe.moe_intermediate_size
    return {
        prefix + "router.weight": (experts, hidden),
        prefix + "experts.gate_up_proj": (experts, 2 * width, hidden),
        prefix + "experts.down_proj": (experts, hidden, width),
    }


def to_reference(weights, config, gate_groups, centred_norms=False):
    """Internal -> reference names. q_proj rows come in gate_groups groups, each its query rows, then its gate rows;
    centred_norms: the reference computes x * (1 + w) where we compute x * w."""
    reference = {}
    for name, value in weights.items():
        module, _, leaf = name.rpartition(".")
        if name.endswith("q_proj.weight") and config.gate != "none":
            gate = weights[name.replace("q_proj", "gates.g1")]
            rows = [rows.unflatten(0, (gate_groups, -1)) for rows in (value, gate)]
            reference[name] = torch.cat(rows, 1).flatten(0, 1)
        elif name.endswith("gate_up_proj.weight"):
            for part, half in zip(("gate_proj", "up_proj"), value.chunk(2)):
                reference[name.replace("gate_up_proj", part)] = half
        elif name.endswith("router.weight"):
            reference[name.replace("router", "gate")] = value
        elif name.endswith("experts.gate_up_proj"):
            for expert, matrix in enumerate(value):
                for part, half in zip(("gate_proj", "up_proj"), matrix.chunk(2)):
                    reference[f"{module}.{expert}.{part}.weight"] = half
        elif name.endswith("experts.down_proj"):
            for expert, matrix in enumerate(value):
                reference[f"{module}.{expert}.{leaf}.weight"] = matrix
        elif name.endswith("norm.weight") and centred_norms:
            reference[name] = value - 1
        elif not name.endswith("gates.g1.weight"):
            reference[name] = value
    return reference
